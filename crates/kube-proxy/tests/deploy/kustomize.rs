//! The kustomizations: they name files that are there, and what they make is valid.

use std::path::{Path, PathBuf};

use kube_proxy_config::Mode;
use serde::Deserialize;
use serde_json::Value;

use crate::{built, check_object, deploy, documents, load_with, read};

/// What a kustomization here may hold; anything else is a mistake.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are those of kustomize")]
struct Patch {
    path: Option<String>,
    patch: Option<String>,
    target: Option<Target>,
    options: Option<Options>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    allow_name_change: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

fn kustomizations() -> Vec<PathBuf> {
    let overlays = std::fs::read_dir(deploy().join("overlays")).unwrap();
    let mut all: Vec<PathBuf> = overlays.map(|entry| entry.unwrap().path()).collect();
    all.extend([deploy().join("base"), deploy().join("config")]);
    all.sort();
    all
}

fn parse(directory: &Path) -> Kustomization {
    serde_saphyr::from_str(&read(&directory.join("kustomization.yaml"))).expect("a kustomization")
}

#[test]
fn references_lead_to_valid_objects() {
    for directory in kustomizations() {
        let kustomization = parse(&directory);
        assert_eq!(kustomization.api_version, "kustomize.config.k8s.io/v1beta1");
        assert_eq!(kustomization.kind, "Kustomization");
        for resource in &kustomization.resources {
            let path = directory.join(resource);
            if path.is_dir() {
                parse(&path);
            } else {
                documents(&read(&path)).iter().for_each(check_object);
            }
        }
        for patch in &kustomization.patches {
            if let Some(path) = &patch.path {
                assert_eq!(documents(&read(&directory.join(path))).len(), 1);
            }
            if let Some(text) = &patch.patch {
                let operations = documents(text);
                assert_eq!(operations[0][0]["op"], "add");
                assert!(patch.options.as_ref().is_none_or(|options| options.allow_name_change));
                let target = patch.target.as_ref().expect("a target");
                assert_eq!(
                    (target.kind.as_str(), target.name.as_str()),
                    ("DaemonSet", "kube-proxy")
                );
            }
        }
    }
}

#[test]
fn there_is_an_overlay_for_each_mode() {
    for mode in Mode::ALL {
        let text = read(&deploy().join("overlays").join(mode.name()).join("kustomization.yaml"));
        assert!(text.contains(&format!("value: {mode}\n")), "{text}");
    }
}

/// With `kubectl`, which has kustomize inside, the whole of each is built and checked.
#[test]
fn what_is_built_is_valid() {
    for directory in kustomizations() {
        let path = directory.display();
        let Some(objects) = built(directory.to_str().unwrap()) else { return };
        objects.iter().for_each(check_object);
        assert!(objects.iter().any(|object| object["kind"] == "DaemonSet"), "{path}");
    }
}

/// It runs beside the DaemonSet of kubeadm: neither takes the pods of the other, and the rights are the same.
#[test]
fn one_node_has_a_daemon_set_of_its_own() {
    let Some(objects) = built("overlays/one-node") else { return };
    let base = built("base").unwrap();
    let set = |objects: &[Value]| {
        let found = objects.iter().find(|object| object["kind"] == "DaemonSet");
        found.expect("a DaemonSet").clone()
    };
    let (own, cluster) = (set(&objects), set(&base));
    assert_ne!(own["metadata"]["name"], cluster["metadata"]["name"]);
    assert_ne!(own["spec"]["selector"], cluster["spec"]["selector"]);
    let labels = &own["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&own["spec"]["selector"]["matchLabels"], labels);
    let pod = &own["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["kube-proxy"], "rust");
    let other_pod = &cluster["spec"]["template"]["spec"];
    assert_eq!(pod["containers"], other_pod["containers"]);
}

#[test]
fn the_config_map_is_a_configuration() {
    let maps = documents(&read(&deploy().join("config/configmap.yaml")));
    let sets = documents(&read(&deploy().join("base/daemonset.yaml")));
    let container = &sets[0]["spec"]["template"]["spec"]["containers"][0];
    let loaded = load_with(container, maps[0]["data"]["config.conf"].as_str().unwrap());
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.effective.mode, Mode::Iptables);
    let kubeconfig = &documents(maps[0]["data"]["kubeconfig.conf"].as_str().unwrap())[0];
    assert_eq!(kubeconfig["kind"], "Config");
}
