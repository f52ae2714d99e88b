// What becomes of a connection, and what is wrong with the node.

import { age, element, link, list, panel, table } from "./dom.js";
import { ask } from "./ask.js";
import { frontendText, portName, unusedText } from "./services.js";

const VERDICTS = { endpoints: ["good", "Goes to an endpoint"], refused: ["bad", "Refused"], dropped: ["bad", "Dropped"], passed: ["warn", "Left alone"] };
const SOURCES = [["", "usual for the destination"], ["pod", "a pod of this node"], ["node", "this node"], ["outside", "outside"], ["address", "an address"]];

// The form, and the answer to what it was filled in with.
export async function explain(state) {
  const to = state.get("explain");
  const from = state.get("from") ?? "";
  const content = [element("h1", {}, "Explain a connection"), form(to, from)];
  if (!to) return { content };
  const question = { to, ...(from ? { from } : {}) };
  const answer = await ask("debug/explain", question).catch((error) => {
    content.push(panel("bad", element("p", {}, error.message)));
    return undefined;
  });
  if (!answer) return { content };
  content.push(...(answer.warnings ?? []).map((warning) => panel("warn", element("p", {}, element("b", {}, "Warning "), warning))));
  if (answer.paths.length === 0) {
    const similar = (answer.similar ?? []).map((id) => element("li", {}, link(portName(id), { explain: portName(id) })));
    content.push(panel("bad", element("p", {}, element("b", {}, "Nothing"), ` on this node has the destination ${to}.`), similar.length ? [element("p", {}, "Perhaps one of these is meant:"), element("ul", {}, similar)] : ""));
  }
  content.push(...answer.paths.flatMap(path));
  return { answer, content };
}

function form(to, from) {
  const isAddress = from !== "" && !SOURCES.some(([value]) => value === from);
  const destination = element("input", { id: "to", value: to ?? "", required: true, placeholder: "10.96.0.10:80, shop/web:http, :30080", spellcheck: "false" });
  const options = SOURCES.map(([value, text]) => element("option", { value, selected: isAddress ? value === "address" : value === from }, text));
  const source = element("select", { id: "from" }, options);
  const address = element("input", { id: "address", value: isAddress ? from : "", placeholder: "198.51.100.7", spellcheck: "false" });
  const addressLabel = element("label", {}, "Source address", address);
  const showAddress = () => { addressLabel.hidden = source.value !== "address"; };
  source.addEventListener("change", showAddress);
  showAddress();
  const submit = (event) => {
    event.preventDefault();
    const chosen = source.value === "address" ? address.value.trim() : source.value;
    const state = { explain: destination.value.trim(), ...(chosen ? { from: chosen } : {}) };
    const before = location.hash;
    location.hash = "#" + new URLSearchParams(state);
    // The same question again.
    if (location.hash === before) window.dispatchEvent(new Event("hashchange"));
  };
  return element("form", { on: { submit } },
    element("label", { class: "wide" }, "Destination", destination),
    element("label", {}, "From", source), addressLabel,
    element("button", { class: "main" }, "Explain"));
}

function path(path) {
  const [kind, verdict] = VERDICTS[path.verdict] ?? ["warn", path.verdict];
  const port = path.servicePort;
  const advice = (path.advice ?? []).map((next) => element("p", {}, element("b", {}, "Next "), next, "."));
  const pairs = [
    ["Service", port && link(portName(port), { service: `${port.namespace}/${port.name}` })],
    ["Frontend", path.frontend && frontendText(path.frontend, port.protocol)],
    ["Policy", path.policy && path.policy + (path.shortCircuit ? ": Local does not count for this node and its pods" : "")],
    ["Source ranges", path.sourceAllowed !== undefined && port && `${path.sourceAllowed ? "the source is in" : "the source is in none of"} ${(port.sourceRanges ?? []).join(", ")}`],
    ["Affinity", port?.sessionAffinitySeconds && `a client keeps its endpoint for ${port.sessionAffinitySeconds} s`],
    ["Session", path.session && sessionText(path.session)],
    ["Last change", port?.lastChange && `${port.lastChange.kind} ${port.lastChange.object} ${port.lastChange.what} ${age(port.lastChange.received)} ago`],
    ["Client address", path.masquerade && `${path.masquerade.masqueraded ? "masqueraded" : "kept"}: ${path.masquerade.reason}`],
    ["On the node", onNode(path.onNode)],
    ["Near", (path.nearest ?? []).map((near) => element("div", {}, `${portName(near.servicePort)} at ${near.frontend}: ${near.relation}`))],
    ["Connections", (path.connections ?? []).map((lead) => element("div", {}, `${lead.count} to ${lead.endpoint}${lead.unused ? ", which takes no new ones" : ""}`))],
  ].filter(([, value]) => value !== false && !(Array.isArray(value) && value.length === 0));
  const endpoints = path.endpoints?.length
    ? table(["Endpoint", "On this node", "Used", "Why not"], path.endpoints, (endpoint) => [
        element("span", { class: "address" }, endpoint.address),
        endpoint.local ? "yes" : "no",
        element("span", { class: endpoint.unused ? "warn" : "good" }, endpoint.unused ? "no" : "yes"),
        unusedText(endpoint.unused),
      ])
    : [];
  return [panel(kind, element("p", {}, element("b", {}, verdict)), element("p", {}, path.summary), advice), list(pairs), ...endpoints];
}

function sessionText(session) {
  if (session.state === "none") return "none: an endpoint is chosen, and kept from then on";
  if (session.state !== "found") return `not known: ${session.why}`;
  return `${session.endpoint} for another ${session.secondsLeft} s${session.followed ? "" : ", which takes no new ones: another is chosen"}`;
}

const STATES = { asWanted: ["", ""], missing: ["bad", "missing "], different: ["bad", "different "], inTheWay: ["bad", "in the way: "], unknown: ["warn", "not known: "] };

// What the node holds for the frontend: that all is right, or what is wrong; and all of it for who wants to see it.
function onNode(held) {
  if (!held) return false;
  if (held.failure) return `not known: ${held.failure}`;
  const line = (object) => {
    const [kind, word] = STATES[object.state] ?? ["warn", `${object.state} `];
    const more = object.actual ? `, there is ${object.actual}` : object.why ? `: ${object.why}` : "";
    return element("div", { class: kind }, `${word}${object.kind} ${object.name}${more}`);
  };
  const repaired = (held.repaired ?? []).map((repair) => element("div", { class: "warn" }, `repaired ${age(repair.at)} ago: ${repair.difference.deviation} ${repair.difference.kind} ${repair.difference.name}`));
  const right = held.wrong === 0 ? [`${held.total} objects serve it, as they should be`] : held.objects.filter((object) => object.state !== "asWanted").map(line);
  const all = held.objects.length ? element("details", {}, element("summary", {}, "all of them"), held.objects.map(line)) : "";
  return [...right.map((text) => (typeof text === "string" ? element("div", {}, text) : text)), ...repaired, all];
}

const SEVERITIES = { problem: ["bad", "Problem"], warning: ["warn", "Warning"], note: ["", "Note"] };

// What `kube-proxy check` reports.
export async function check() {
  const report = await ask("debug/findings", {});
  const compared = (report.check?.families ?? []).filter((family) => family.compared && family.total === 0);
  const content = [element("h1", {}, "Check"), element("p", { class: "quiet" }, "The node compared with what should be on it, object by object, and what surrounds the proxy. Nothing is repaired.")];
  content.push(...compared.map((family) => panel("good", element("p", {}, element("b", {}, family.family), ": everything is on the node as it should be"))));
  content.push(...report.findings.map((finding) => {
    const [kind, name] = SEVERITIES[finding.severity] ?? ["", finding.severity];
    return panel(kind, element("p", {}, element("b", {}, name), " "), element("p", { class: "lines" }, finding.what), element("p", { class: "quiet" }, finding.meaning), element("p", {}, "To do: ", finding.remedy));
  }));
  return { answer: report.check, content };
}
