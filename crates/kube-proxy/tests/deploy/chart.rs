//! The Helm chart. With `helm` it is rendered and checked; without, its parts are.

use serde_json::Value;

use crate::{check_object, deploy, documents, output_of, read};

fn values() -> Value {
    documents(&read(&deploy().join("helm/kube-proxy/values.yaml"))).remove(0)
}

fn templates() -> Vec<(String, String)> {
    let directory = deploy().join("helm/kube-proxy/templates");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<(String, String)> =
        entries.map(|path| (path.display().to_string(), read(&path))).collect();
    all.sort();
    all
}

/// The actions of a template: what stands between double braces.
fn actions(template: &str) -> Vec<&str> {
    let parts = template.split("{{").skip(1);
    let inner = parts.map(|part| part.split_once("}}").expect("an action has an end").0);
    inner.map(|action| action.trim_matches('-').trim()).collect()
}

#[test]
fn the_chart_has_what_helm_asks_for() {
    let chart = &documents(&read(&deploy().join("helm/kube-proxy/Chart.yaml")))[0];
    assert_eq!(chart["apiVersion"], "v2");
    assert_eq!(chart["name"], "kube-proxy");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn templates_use_values_that_are_there() {
    let values = values();
    let mut used = 0;
    for (path, template) in templates() {
        for action in actions(&template) {
            let words = action.split_whitespace().filter_map(|word| word.strip_prefix(".Values."));
            for word in words {
                let pointer = format!("/{}", word.replace('.', "/"));
                assert!(values.pointer(&pointer).is_some(), "{path}: no value {word}");
                used += 1;
            }
        }
    }
    assert!(used > 10, "templates are read right");
}

#[test]
fn blocks_of_templates_end() {
    for (path, template) in templates() {
        let mut open = 0_i32;
        for action in actions(&template) {
            match action.split_whitespace().next() {
                Some("if" | "with" | "range") => open += 1,
                Some("end") => open -= 1,
                Some("else") => assert!(open > 0, "{path}: {action}"),
                Some(word) => {
                    assert!(word.starts_with('.') || word == "toYaml", "{path}: {action}");
                }
                None => panic!("{path}: an empty action"),
            }
            assert!(open >= 0, "{path}: one end too many");
        }
        assert_eq!(open, 0, "{path}: a block without end");
    }
}

/// The plain lines of the templates of the chart are those of the kustomize base.
#[test]
fn the_chart_says_what_the_base_says() {
    for (template, base) in [("daemonset.yaml", "daemonset.yaml"), ("rbac.yaml", "rbac.yaml")] {
        let template = read(&deploy().join("helm/kube-proxy/templates").join(template));
        let base = read(&deploy().join("base").join(base));
        let lines = base.lines().filter(|line| !line.starts_with('#') && !line.contains("image:"));
        for line in lines {
            let found = template.lines().any(|other| other.trim() == line.trim());
            assert!(found, "the chart lacks: {line}");
        }
    }
}

#[test]
fn what_is_rendered_is_valid() {
    let path = deploy().join("helm/kube-proxy");
    let path = path.to_str().unwrap();
    let sets: [&[&str]; 3] = [
        &[],
        &["--set", "mode=nftables,privileged=false,config.create=true,rbac.create=true"],
        &["--set", "extraArgs={--v=2}", "--set", "resources.requests.cpu=10m"],
    ];
    for set in sets {
        let all = [&["template", "kube-proxy", path, "--namespace", "kube-system"], set].concat();
        let Some(text) = output_of("helm", &all) else { return };
        documents(&text).iter().for_each(check_object);
    }
}
