// Which view is shown: the fragment of the address says it, so that a view can be linked to.

import { element, panel } from "./dom.js";
import { changes, service, services } from "./services.js";
import { check, explain } from "./answers.js";

const VIEWS = { service, explain, check, changes, services };

// Counts the views, so that a slow answer does not replace a later one.
let current = 0;

async function show() {
  const mine = ++current;
  const state = new URLSearchParams(location.hash.slice(1));
  const name = Object.keys(VIEWS).find((view) => state.has(view)) ?? "services";
  for (const tab of document.querySelectorAll("nav a")) {
    const own = tab.hash.slice(1);
    const isShown = own === name || (own === "services" && name === "service");
    if (isShown) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const main = document.getElementById("main");
  main.replaceChildren(element("p", { class: "quiet", role: "status" }, "Asking the proxy …"));
  let view;
  try {
    view = await VIEWS[name](state);
  } catch (error) {
    view = { content: [panel("bad", element("p", {}, element("b", {}, "No answer. "), error.message))] };
  }
  if (mine !== current) return;
  main.replaceChildren(...view.content);
  document.title = `${name[0].toUpperCase()}${name.slice(1)} – kube-proxy`;
  if (view.answer) about(view.answer);
}

// Which node answered, and how far it is.
function about(answer) {
  document.getElementById("node").textContent = `${answer.node}, ${answer.mode} mode`;
  const families = (answer.families ?? []).filter((family) => "changesSince" in family);
  if (families.length === 0) return;
  const line = (family) => element("p", {}, `${family.family}: `,
    family.synced ? `last sync ${family.synced}` : element("b", { class: "bad" }, "nothing written yet"),
    family.waitingSeconds ? `, a change has waited for ${family.waitingSeconds.toFixed(1)} s` : "",
    family.failure ? element("span", { class: "bad" }, `, the last sync failed: ${family.failure}`) : "");
  document.getElementById("families").replaceChildren(...families.map(line));
}

window.addEventListener("hashchange", show);
show();
