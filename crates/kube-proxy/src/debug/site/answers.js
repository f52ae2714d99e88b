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
  const verify = state.get("verify") === "true";
  const content = [element("h1", {}, "Explain a connection"), form(to, from, verify)];
  if (!to) return { content };
  const question = { to, ...(from ? { from } : {}), ...(verify ? { verify } : {}) };
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

function form(to, from, verify) {
  const isAddress = from !== "" && !SOURCES.some(([value]) => value === from);
  const destination = element("input", { id: "to", value: to ?? "", required: true, placeholder: "10.96.0.10:80, shop/web:http, :30080", spellcheck: "false" });
  const options = SOURCES.map(([value, text]) => element("option", { value, selected: isAddress ? value === "address" : value === from }, text));
  const source = element("select", { id: "from" }, options);
  const address = element("input", { id: "address", value: isAddress ? from : "", placeholder: "198.51.100.7", spellcheck: "false" });
  const addressLabel = element("label", {}, "Source address", address);
  const compare = element("input", { type: "checkbox", id: "verify", checked: verify });
  const showAddress = () => { addressLabel.hidden = source.value !== "address"; };
  source.addEventListener("change", showAddress);
  showAddress();
  const submit = (event) => {
    event.preventDefault();
    const chosen = source.value === "address" ? address.value.trim() : source.value;
    const state = { explain: destination.value.trim(), ...(chosen ? { from: chosen } : {}), ...(compare.checked ? { verify: true } : {}) };
    const before = location.hash;
    location.hash = "#" + new URLSearchParams(state);
    // The same question again.
    if (location.hash === before) window.dispatchEvent(new Event("hashchange"));
  };
  return element("form", { on: { submit } },
    element("label", { class: "wide" }, "Destination", destination),
    element("label", {}, "From", source), addressLabel,
    element("label", { class: "check" }, compare, "compare the rules on the node"),
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
    ["On the node", path.differences && (path.differences.length ? path.differences.map(difference) : "its rules are there as they should be")],
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

function difference({ deviation, kind, name }) {
  return element("div", { class: "bad" }, `${deviation} ${kind} ${name}`);
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
