//! The Helm chart. With `helm` it is rendered and checked; without, its parts are.

use std::process::Output;

use serde_json::Value;

use crate::{built, check_object, deploy, documents, output_of, read, run};

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

/// Helm renders a value that is not there as nothing.
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

/// Each value is described, and nothing is described that is no value.
#[test]
fn the_schema_has_the_values() {
    let text = read(&deploy().join("helm/kube-proxy/values.schema.json"));
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let described = schema["properties"].as_object().unwrap();
    let mut names: Vec<&String> = described.keys().filter(|name| *name != "global").collect();
    names.sort();
    let values = values();
    let mut there: Vec<&String> = values.as_object().unwrap().keys().collect();
    there.sort();
    assert_eq!(names, there);
    for name in names {
        assert!(described[name]["description"].is_string(), "{name}");
    }
}

/// `helm template` with values, or `None` where there is no helm.
fn template(sets: &[&str]) -> Option<Output> {
    let path = deploy().join("helm/kube-proxy");
    let chart = ["template", "kube-proxy", path.to_str().unwrap(), "--namespace", "kube-system"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    run("helm", &chart.into_iter().chain(sets).collect::<Vec<_>>())
}

/// The objects that it makes, in an order of their own.
fn rendered(sets: &[&str]) -> Option<Vec<Value>> {
    let output = template(sets)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sets:?}: {errors}");
    let mut objects = documents(std::str::from_utf8(&output.stdout).unwrap());
    objects.sort_by_key(|object| (object["kind"].to_string(), object["metadata"].to_string()));
    Some(objects)
}

#[test]
fn what_is_rendered_is_valid() {
    let sets: [&[&str]; 4] = [
        &[],
        &["mode=nftables,privileged=false,config.create=true,rbac.create=true"],
        &["extraArgs={--v=2}", "resources.requests.cpu=10m"],
        &["seccompProfile=kube-proxy.json", "privileged=false", "global.any=1"],
    ];
    for set in sets {
        let Some(objects) = rendered(set) else { return };
        objects.iter().for_each(check_object);
    }
    let path = deploy().join("helm/kube-proxy");
    output_of("helm", &["lint", "--strict", path.to_str().unwrap()]);
}

/// What is wrong is named before anything reaches a cluster.
#[test]
fn wrong_values_are_refused() {
    for (set, place) in [
        ("mode=ipvss", "/mode"),
        ("image.tag=", "/image/tag"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("extraArgs=--v=2", "/extraArgs"),
        ("extraArgs={v}", "/extraArgs/0"),
        ("privileged=maybe", "/privileged"),
        ("replicas=3", "'replicas' not allowed"),
        ("rbac.make=true", "'make' not allowed"),
        ("config.server=10.0.0.1", "/config/server"),
        ("config.clusterCIDR=ten", "/config/clusterCIDR"),
        ("resources.requests.cpu=much", "/resources/requests/cpu"),
    ] {
        let Some(output) = template(&[set]) else { return };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{set} is accepted");
        assert!(errors.contains(place), "{set}: {errors}");
    }
}

/// The chart and the kustomizations are two ways to the same objects.
#[test]
fn the_chart_makes_what_the_kustomizations_make() {
    let all = "rbac.create=true";
    for (sets, directory) in [
        (vec![all], "base"),
        (vec![all, "mode=nftables"], "overlays/nftables"),
        (vec![all, "mode=ipvs"], "overlays/ipvs"),
        (vec![all, "privileged=false", "seccompProfile=kube-proxy.json"], "overlays/hardened"),
    ] {
        let Some(mut chart) = rendered(&sets) else { return };
        let Some(base) = built(directory) else { return };
        for object in &mut chart {
            // The chart has a value for it, and the cluster's default is the same.
            for kind in ["containers", "initContainers"] {
                let list = object.pointer_mut(&format!("/spec/template/spec/{kind}"));
                for container in list.and_then(Value::as_array_mut).into_iter().flatten() {
                    let policy = container.as_object_mut().unwrap().remove("imagePullPolicy");
                    assert_eq!(policy, Some("IfNotPresent".into()));
                }
            }
        }
        assert_eq!(chart, base, "{directory}");
    }
}
