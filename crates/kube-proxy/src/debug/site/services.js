// What this node serves: the list of Services, and one of them.

import { age, between, element, link, list, table } from "./dom.js";
import { ask, text } from "./ask.js";

const KINDS = { clusterIp: "cluster IP", loadBalancerVip: "load-balancer VIP", externalIp: "external IP", nodePort: "node port" };
const UNUSED = {
  notLocal: "not on this node",
  notReady: "not ready",
  terminating: "terminating",
  notServing: "terminating, no longer serving",
  hintsOtherNode: "hints name other nodes",
  hintsOtherZone: "hints name other zones",
};

export function unusedText(reason) {
  return UNUSED[reason] ?? reason ?? "";
}

export function portName(port) {
  return `${port.namespace}/${port.name}${port.portName ? ":" + port.portName : ""}`;
}

export function frontendText(frontend, protocol) {
  const address = frontend.address ?? "";
  const place = address.includes(":") ? `[${address}]` : address;
  return `${place}:${frontend.port}/${protocol.toLowerCase()}`;
}

function policies(port) {
  const external = port.externalTrafficPolicy;
  return port.internalTrafficPolicy + (external ? ` / ${external}` : "");
}

function numbers(port) {
  const kind = port.endpointsUsed > 0 ? "good" : "bad";
  return element("span", { class: kind }, `${port.endpointsUsed} / ${port.endpointsReady} / ${port.endpointsTotal}`);
}

function changed(port, families) {
  if (port.lastChange) return age(port.lastChange.received);
  const family = families.find((family) => family.family === port.family);
  return family?.changesSince ? `more than ${age(family.changesSince)}` : "";
}

// The list, with a search that looks at names, addresses and ports.
export async function services(state) {
  const answer = await ask("debug/services", { endpoints: "none" });
  const ports = answer.servicePorts.map((port) => {
    const frontends = port.frontends.map((frontend) => frontendText(frontend, port.protocol));
    return { port, frontends, searched: [portName(port), ...frontends].join(" ").toLowerCase() };
  });
  const results = element("div");
  const show = (words) => {
    const wanted = words.toLowerCase().split(/\s+/).filter((word) => word);
    const found = ports.filter((entry) => wanted.every((word) => entry.searched.includes(word)));
    const count = `${found.length.toLocaleString("en")} of ${ports.length.toLocaleString("en")} service ports`;
    const rows = table(["Service", "Frontends", "Policy", "Used / ready / all", "Changed"], found, ({ port, frontends }) => [
      link(portName(port), { service: `${port.namespace}/${port.name}` }),
      frontends.map((frontend) => element("span", { class: "line address" }, frontend)),
      policies(port),
      numbers(port),
      changed(port, answer.families),
    ]);
    results.replaceChildren(element("p", { class: "quiet", role: "status" }, count), ...(found.length ? rows : []));
  };
  const search = element("input", { type: "search", id: "search", value: state.get("q") ?? "", placeholder: "name, address or port" });
  search.addEventListener("input", () => {
    // The address follows without another question to the proxy.
    history.replaceState(null, "", "#" + new URLSearchParams({ services: "", q: search.value }));
    show(search.value);
  });
  show(search.value);
  const form = element("form", { on: { submit: (event) => event.preventDefault() } }, element("label", { class: "wide" }, "Search", search));
  return { answer, content: [element("h1", {}, "Services"), form, results] };
}

// One Service: each port in each family.
export async function service(state) {
  const [namespace, name] = splitName(state.get("service"));
  const [answer, recent, metrics] = await Promise.all([
    ask("debug/services", { namespace, name }),
    ask("debug/changes", { namespace, name }),
    text("metrics"),
  ]);
  const full = `${namespace}/${name}`;
  const content = [element("h1", {}, full)];
  if (answer.servicePorts.length === 0) {
    content.push(element("p", {}, "This node serves no Service of this name: it may be headless, of type ExternalName, or not exist."));
  } else {
    content.push(element("p", {}, link("Explain a connection to it", { explain: full })));
  }
  const counters = readCounters(metrics, namespace, name);
  for (const port of answer.servicePorts) content.push(...onePort(port, answer.families, counters));
  if (recent.changes.length) {
    content.push(element("h2", {}, "Recent changes"), ...changeTable(recent.changes));
  }
  return { answer, content };
}

function splitName(name) {
  const at = name.indexOf("/");
  return at < 0 ? ["default", name] : [name.slice(0, at), name.slice(at + 1)];
}

function onePort(port, families, counters) {
  const own = counters.filter((counter) => counter.labels.ip_family === port.family && counter.labels.port === port.portName && counter.labels.protocol === port.protocol);
  const frontends = port.frontends.map((frontend) => {
    const owner = frontend.owner && element("span", { class: "bad" }, ` taken by ${portName(frontend.owner)}`);
    const also = frontend.contestedBy?.length && element("span", { class: "warn" }, ` also asked for by ${frontend.contestedBy.map(portName).join(", ")}`);
    const address = element("span", { class: "address" }, frontendText(frontend, port.protocol));
    return element("div", {}, address, ` ${KINDS[frontend.kind] ?? frontend.kind}, ${frontend.policy}`, owner || "", also || "");
  });
  const pairs = [
    ["Frontends", frontends],
    ["Policy", policies(port)],
    ["Affinity", port.sessionAffinitySeconds && `a client keeps its endpoint for ${port.sessionAffinitySeconds} s`],
    ["Source ranges", port.sourceRanges?.join(", ")],
    ["Health check", port.healthCheckNodePort && `node port ${port.healthCheckNodePort}`],
    ["Changed", `${changed(port, families)} ago`],
    ...own.filter((counter) => !counter.labels.endpoint).map((counter) => [counter.name, Number(counter.value).toLocaleString("en")]),
  ];
  const title = `${port.portName || port.port} ${port.protocol}, ${port.family}`;
  const content = [element("h2", {}, title), list(pairs)];
  if (!port.endpoints?.length) {
    content.push(element("p", { class: "bad" }, element("b", {}, "No endpoints."), " Connections are refused until a pod that the selector of the Service names is ready."));
    return content;
  }
  const headings = ["Endpoint", "State", "On this node", "Used for", "Why not for all"];
  content.push(...table(headings, port.endpoints, (endpoint) => {
    const used = endpoint.selections.filter((selection) => !selection.unused);
    const kinds = used.flatMap((selection) => selection.frontends.length ? selection.frontends.map((kind) => KINDS[kind] ?? kind) : ["this node"]);
    const reasons = new Set(endpoint.selections.filter((selection) => selection.unused).map((selection) => unusedText(selection.unused)));
    return [
      element("span", { class: "address" }, endpoint.address),
      element("span", { class: endpoint.ready ? "good" : "warn" }, endpointState(endpoint)),
      endpoint.local ? "yes" : "no",
      kinds.join(", ") || "–",
      [...reasons].join("; "),
    ];
  }));
  return content;
}

function endpointState({ ready, serving, terminating }) {
  if (ready) return terminating ? "ready, terminating" : "ready";
  if (!terminating) return "not ready";
  return serving ? "terminating" : "terminating, not serving";
}

const COUNTERS = {
  kubeproxy_service_connections_total: "Connections",
  kubeproxy_service_refused_connections_total: "Refused or dropped",
  kubeproxy_service_sent_bytes_total: "Bytes sent",
  kubeproxy_service_received_bytes_total: "Bytes received",
};

function counterName(name, { reason }) {
  return reason ? `${name} (${reason})` : name;
}

// What the metrics say of one Service.
function readCounters(metrics, namespace, name) {
  const found = [];
  for (const line of metrics.split("\n")) {
    const sample = /^(kubeproxy_service_\w+)\{(.*)\} (\S+)$/.exec(line);
    if (!sample || !COUNTERS[sample[1]]) continue;
    const labels = Object.fromEntries([...sample[2].matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((label) => [label[1], label[2]]));
    if (labels.namespace === namespace && labels.service === name) found.push({ name: counterName(COUNTERS[sample[1]], labels), labels, value: sample[3] });
  }
  return found;
}

// The last changes of all Services.
export async function changes() {
  const answer = await ask("debug/changes", {});
  const since = answer.families.map((family) => `${family.family} since ${family.changesSince}`).join(", ");
  const content = [
    element("h1", {}, "Changes"),
    element("p", { class: "quiet" }, `Changes of Services and endpoints that made a difference on this node, the last first. Complete: ${since}.`),
  ];
  content.push(...(answer.changes.length ? changeTable(answer.changes) : [element("p", {}, "Nothing has changed since then.")]));
  return { answer, content };
}

function changeTable(changes) {
  return table(["Service", "What", "Family", "When", "Cause to node", "Node to kernel"], changes, (change) => {
    const ready = change.endpointsTotal === undefined ? "" : `, ${change.endpointsReady} of ${change.endpointsTotal} ready`;
    return [
      link(`${change.namespace}/${change.service}`, { service: `${change.namespace}/${change.service}` }),
      `${change.kind} ${change.object} ${change.what}${ready}`,
      change.family,
      `${age(change.received)} ago`,
      between(change.triggered, change.received),
      change.inKernel ? between(change.received, change.inKernel) : "waits",
    ];
  });
}
