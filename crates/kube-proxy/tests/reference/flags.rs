//! `docs/flags.md`: every flag, every field and every endpoint.

use std::fmt::Write as _;

use expect_test::expect_file;
use kube_proxy_config::KubeProxyConfiguration;
use kube_proxy_config::flags::definitions;
use serde_json::Value;

/// Flags and fields that are accepted and do nothing, or do something else.
const STATES: &[(&str, &str)] = &[
    ("bindAddress", "also decides the primary family"),
    ("configSyncPeriod", "accepted, no effect: nothing is re-read without a reason"),
    ("logging.flushFrequency", "accepted; lines are written at once"),
    ("logging.options.json.infoBufferSize", "accepted; lines are written at once"),
    ("logging.options.text.infoBufferSize", "accepted; lines are written at once"),
    ("showHiddenMetricsForVersion", "accepted; no metric is hidden"),
    ("healthz-port", "deprecated"),
    ("metrics-port", "deprecated"),
];

/// Path, server, state.
const ENDPOINTS: &[(&str, &str, &str)] = &[
    (
        "/healthz",
        "health (10256)",
        "same; also fails when the API server is silent, if --healthz-stale-after asks for it",
    ),
    ("/livez", "health (10256)", "same"),
    (
        "/readyz",
        "health (10256)",
        "added: 200 once the rules of every family were written, and while they are current",
    ),
    (
        "any path",
        "healthCheckNodePort of a Service",
        "same; 503 instead of an empty 200 while the port goes away",
    ),
    ("/healthz", "metrics (10249)", "same"),
    ("/metrics", "metrics (10249)", "same names, see metrics.md; no metrics of a Go runtime"),
    ("/metrics/slis", "metrics (10249)", "same"),
    ("/proxyMode", "metrics (10249)", "same"),
    ("/configz", "metrics (10249)", "same"),
    ("/flagz", "metrics (10249)", "same; values are those that count, whatever set them"),
    ("/statusz", "metrics (10249)", "same; names the Rust version"),
    ("/debug/pprof/profile", "metrics (10249), with enableProfiling", "same format"),
    (
        "/debug/pprof/heap",
        "metrics (10249), with enableProfiling",
        "same format; memory by mapping, no call stacks",
    ),
    ("/debug/pprof/cmdline", "metrics (10249), with enableProfiling", "same"),
    (
        "/debug/pprof/goroutine, trace, symbol, …",
        "metrics (10249), with enableProfiling",
        "absent: about the Go runtime",
    ),
    ("/explain", "metrics (10249), unless --debug-pages=false", "added: a page; see commands.md"),
    ("/debug/changes", "metrics (10249), unless --debug-pages=false", "added: see commands.md"),
    ("/debug/findings", "metrics (10249), unless --debug-pages=false", "added: see commands.md"),
    ("/debug/explain", "metrics (10249), unless --debug-pages=false", "added: see commands.md"),
    ("/debug/services", "metrics (10249), unless --debug-pages=false", "added: see commands.md"),
    ("/debug/flags/v", "metrics (10249), with enableProfiling", "same"),
];

fn state(name: &str) -> &'static str {
    let found = STATES.iter().find(|(known, _)| *known == name);
    found.map_or("same", |(_, state)| state)
}

#[test]
fn the_page_of_flags_fields_and_endpoints_is_up_to_date() {
    let mut page = "# Flags, fields and endpoints\n\n\
        What the Go kube-proxy of Kubernetes 1.36 has, and its state here.\n\
        This page is made from the definitions; see `crates/kube-proxy/tests/reference`.\n\n\
        ## Flags\n\n| flag | field | default | state |\n|---|---|---|---|\n"
        .to_owned();
    let mut flags = definitions();
    flags.sort_by(|a, b| a.name.cmp(&b.name));
    for flag in &flags {
        let field = flag.target.field("");
        let state = match field {
            _ if flag.added => "added",
            _ if flag.hidden => "accepted, no effect",
            Some(field) if state(field) != "same" => state(field),
            _ => state(&flag.name),
        };
        let field = field.map_or(String::new(), |field| format!("`{field}`"));
        writeln!(page, "| `--{}` | {field} | {} | {state} |", flag.name, flag.default).unwrap();
    }
    page += "\n## Fields of `KubeProxyConfiguration`\n\n| field | default | flag | state |\n|---|---|---|---|\n";
    let tree = serde_json::to_value(KubeProxyConfiguration::default()).unwrap();
    let mut all = Vec::new();
    leaves(&tree, "", &mut all);
    for (path, default) in &all {
        let flag = flags.iter().find(|flag| flag.target.field("") == Some(path.as_str()));
        let flag = flag.map_or(String::new(), |flag| format!("`--{}`", flag.name));
        let state = if path.starts_with("win") { "accepted, Windows only" } else { state(path) };
        writeln!(page, "| `{path}` | `{default}` | {flag} | {state} |").unwrap();
    }
    page += "\n## Endpoints\n\n| path | server | state |\n|---|---|---|\n";
    for (path, server, state) in ENDPOINTS {
        writeln!(page, "| `{path}` | {server} | {state} |").unwrap();
    }
    for field in flags.iter().filter_map(|flag| flag.target.field("")) {
        let known = all.iter().any(|(path, _)| path == field) || field == "udpIdleTimeout";
        assert!(known, "no field {field}");
    }
    expect_file!["../../../../docs/flags.md"].assert_eq(&page);
}

/// Every field that holds a value, by its path.
fn leaves(value: &Value, path: &str, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, all);
            }
        }
        other => all.push((path.to_owned(), other.to_string())),
    }
}
