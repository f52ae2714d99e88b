// Questions to the proxy that served this page.

// The JSON at a path with these parameters.
export async function ask(path, parameters) {
  return JSON.parse(await text(`${path}?${new URLSearchParams(parameters)}`));
}

// The text at a path; an error has a sentence for the reader.
export async function text(path) {
  const response = await fetch(path, { cache: "no-store" }).catch(() => {
    throw new Error("The proxy does not answer. It may have ended, or the connection to it.");
  });
  const body = await response.text();
  if (!response.ok) throw new Error(body.trim() || `${response.status} ${response.statusText}`);
  return body;
}
