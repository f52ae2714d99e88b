//! Scraping, alerts and the dashboard. `promtool` parses every expression and runs the tests of the alerts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{built, check_object, deploy, documents, output_of, read};

/// Metrics of `node_exporter` that alerts use beside those of kube-proxy.
const OF_OTHERS: [&str; 2] = ["node_nf_conntrack_entries", "node_nf_conntrack_entries_limit"];

/// Words of the query language that are neither functions nor metrics.
const WORDS: [&str; 9] =
    ["and", "or", "unless", "on", "by", "without", "ignoring", "bool", "offset"];

fn monitoring(file: &str) -> PathBuf {
    deploy().join("monitoring").join(file)
}

fn rules() -> Value {
    documents(&read(&monitoring("rules.yaml"))).remove(0)
}

fn dashboard() -> Value {
    serde_json::from_str(&read(&monitoring("dashboard.json"))).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).expect("a list")
}

fn expressions_of_rules() -> Vec<String> {
    let rules = rules();
    let all = list(&rules["spec"]["groups"]).iter().flat_map(|group| list(&group["rules"]));
    all.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

/// Grafana replaces its variables before Prometheus sees an expression.
fn expressions_of_dashboard() -> Vec<String> {
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| list(&panel["targets"]));
    let text = |target: &Value| target["expr"].as_str().unwrap().to_owned();
    targets
        .map(text)
        .map(|text| text.replace("$__rate_interval", "5m").replace("$instance", ".*"))
        .collect()
}

/// Names of the metrics in an expression: words outside of strings, braces, brackets and lists of labels that are not functions.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (BTreeSet::new(), expression);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').expect("a string ends") + 2,
            '{' => rest.find('}').expect("a selector ends") + 1,
            '[' => rest.find(']').expect("a range ends") + 1,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        if !is_word(first) {
            continue;
        }
        let next = rest.trim_start();
        // An aggregation may name its labels before its argument.
        let opens = ["(", "by ", "without "].iter().any(|start| next.starts_with(start));
        if opens && WORDS.contains(&token) && !["and", "or", "unless"].contains(&token) {
            rest = rest.split_once(')').expect("a list of labels ends").1;
        } else if !opens && !WORDS.contains(&token) && !first.is_ascii_digit() {
            found.insert(token.to_owned());
        }
    }
    found
}

#[test]
fn metrics_are_found_in_expressions() {
    let expression = r#"sum by (le, instance) (rate(a_bucket{x="b_c"}[5m])) > 0.5 unless on (d) (e and f:g) or vector(0)"#;
    let names = ["a_bucket", "e", "f:g"].map(str::to_owned);
    assert_eq!(metrics_in(expression), names.into_iter().collect());
}

/// The page lists what the program exposes; the names of the Go version are among them.
fn is_documented(page: &str, metric: &str) -> bool {
    let listed = |name: &str, kind: &str| page.contains(&format!("\n| `{name}` | {kind}"));
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
    listed(metric, "") || stem.is_some_and(|stem| listed(stem, "histogram"))
}

#[test]
fn every_metric_of_an_expression_exists() {
    let page = read(&deploy().join("../docs/metrics.md"));
    let mut used = BTreeSet::new();
    for expression in expressions_of_rules().iter().chain(&expressions_of_dashboard()) {
        let metrics = metrics_in(expression);
        assert!(!metrics.is_empty(), "{expression}");
        used.extend(metrics);
    }
    for metric in &used {
        let known = OF_OTHERS.contains(&metric.as_str()) || is_documented(&page, metric);
        assert!(known, "there is no metric {metric}");
    }
    for metric in OF_OTHERS {
        assert!(used.contains(metric), "{metric} is not used");
    }
    assert!(used.len() > 25, "{used:?}");
}

#[test]
fn alerts_fire_when_they_should() {
    let directory = tempfile::tempdir().unwrap();
    // JSON is YAML.
    std::fs::write(directory.path().join("rules"), rules()["spec"].to_string()).unwrap();
    let tests = directory.path().join("rules.test.yaml");
    std::fs::copy(monitoring("rules.test.yaml"), &tests).unwrap();
    output_of("promtool", &["test", "rules", tests.to_str().unwrap()]);
}

/// Each alert is in a test where it fires, and in the one of a healthy node, where it does not.
#[test]
fn every_alert_is_tested() {
    let tests = documents(&read(&monitoring("rules.test.yaml"))).remove(0);
    let names = |fires: bool| {
        let all = list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"]));
        let chosen = all.filter(|test| test["exp_alerts"].is_array() == fires);
        chosen.map(|test| test["alertname"].clone()).collect::<Vec<_>>()
    };
    let (fired, silent) = (names(true), names(false));
    for rule in list(&rules()["spec"]["groups"][0]["rules"]) {
        assert!(fired.contains(&rule["alert"]), "{}", rule["alert"]);
        assert!(silent.contains(&rule["alert"]), "{}", rule["alert"]);
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].is_string(), "{}: {text}", rule["alert"]);
        }
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["info", "warning", "critical"].contains(&severity), "{severity}");
    }
}

#[test]
fn every_expression_of_the_dashboard_is_one() {
    let expressions = expressions_of_dashboard();
    let record =
        |(number, expr): (usize, &String)| json!({"record": format!("e{number}"), "expr": expr});
    let rules: Vec<_> = expressions.iter().enumerate().map(record).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let group = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(file.path(), group.to_string()).unwrap();
    let Some(text) = output_of("promtool", &["check", "rules", file.path().to_str().unwrap()])
    else {
        return;
    };
    assert!(text.contains(&format!("{} rules found", expressions.len())), "{text}");
}

/// Panels have numbers of their own, stand beside and below each other, and ask the data source that is chosen.
#[test]
fn panels_do_not_overlap() {
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]);
    let place = |panel: &Value| {
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        (number("x"), number("y"), number("w"), number("h"))
    };
    for (index, panel) in panels.iter().enumerate() {
        let (x, y, w, h) = place(panel);
        assert!(x + w <= 24, "{}", panel["title"]);
        for other in &panels[..index] {
            let (ox, oy, ow, oh) = place(other);
            let apart = x >= ox + ow || ox >= x + w || y >= oy + oh || oy >= y + h;
            assert!(apart, "{} and {}", panel["title"], other["title"]);
            assert_ne!(panel["id"], other["id"]);
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}

/// What the monitors select is what the DaemonSet has, and Prometheus can follow their relabelling.
#[test]
fn the_monitors_find_the_pods() {
    let set = documents(&read(&deploy().join("base/daemonset.yaml"))).remove(0);
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let service = documents(&read(&monitoring("service/service.yaml"))).remove(0);
    check_object(&service);
    assert_eq!(&service["spec"]["selector"], labels);
    for (file, endpoints) in
        [("podmonitor.yaml", "podMetricsEndpoints"), ("service/servicemonitor.yaml", "endpoints")]
    {
        let monitor = documents(&read(&monitoring(file))).remove(0);
        assert_eq!(&monitor["spec"]["selector"]["matchLabels"], labels, "{file}");
        let endpoint = &monitor["spec"][endpoints][0];
        if let Some(port) = endpoint.get("port") {
            assert_eq!(*port, service["spec"]["ports"][0]["name"], "{file}");
        }
        check_relabelling(list(&endpoint["relabelings"]));
    }
}

/// The operator writes these into the configuration of Prometheus under other names.
fn check_relabelling(relabellings: &[Value]) {
    let names = [
        ("action", "action"),
        ("sourceLabels", "source_labels"),
        ("targetLabel", "target_label"),
        ("regex", "regex"),
        ("replacement", "replacement"),
    ];
    let mut text = "scrape_configs:\n- job_name: kube-proxy\n  relabel_configs:\n".to_owned();
    for relabelling in relabellings {
        let mut config = serde_json::Map::new();
        for (key, value) in relabelling.as_object().unwrap() {
            let (_, name) = names.iter().find(|(own, _)| own == key).expect("a known field");
            config.insert((*name).to_owned(), value.clone());
        }
        writeln!(text, "  - {}", Value::Object(config)).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    output_of("promtool", &["check", "config", file.path().to_str().unwrap()]);
}

/// The ConfigMap for Grafana's sidecar holds the dashboard, and the rest is what the files hold.
#[test]
fn the_kustomizations_are_built() {
    let Some(objects) = built("monitoring") else { return };
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "PodMonitor", "PrometheusRule"]);
    check_object(&objects[0]);
    assert_eq!(objects[0]["metadata"]["labels"]["grafana_dashboard"], "1");
    let data = objects[0]["data"]["kube-proxy.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap(), dashboard());
    assert_eq!(objects[2], rules());
    let objects = built("monitoring/service").unwrap();
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Service", "ServiceMonitor"]);
}
