//! What is in `deploy/` holds what the Kubernetes API knows, field by field, and command lines that this binary takes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is a test")]

mod chart;
mod kustomize;
mod monitoring;
mod plugin;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube_proxy_config::{self as config, Loaded, Start, load};
use kube_proxy_testkit::tools;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The directory `deploy`.
fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML documents");
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// A field that the type does not know is lost on the way there and back.
fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).expect("an object of its kind");
    serde_json::to_value(typed).expect("JSON")
}

/// Fails unless the Kubernetes API knows the object with every field of it.
fn check_object(object: &Value) {
    let back = match object["kind"].as_str().expect("a kind") {
        "ServiceAccount" => round_trip::<ServiceAccount>(object),
        "Service" => round_trip::<Service>(object),
        "ConfigMap" => round_trip::<ConfigMap>(object),
        "Role" => round_trip::<Role>(object),
        "RoleBinding" => round_trip::<RoleBinding>(object),
        "ClusterRoleBinding" => round_trip::<ClusterRoleBinding>(object),
        "DaemonSet" => {
            check_daemon_set(object);
            // Defaults that the type writes out, and the file does not.
            round_trip::<DaemonSet>(object)
        }
        other => panic!("unexpected kind {other}"),
    };
    assert_eq!(&back, object);
    assert_eq!(object["metadata"]["namespace"], namespace_of(object), "{object:#}");
}

fn namespace_of(object: &Value) -> Value {
    if object["kind"] == "ClusterRoleBinding" { Value::Null } else { "kube-system".into() }
}

/// Its volumes are there, and its containers start this binary with flags and variables that it knows.
fn check_daemon_set(object: &Value) {
    let pod = &object["spec"]["template"]["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let volumes: Vec<Value> = list(&pod["volumes"]).iter().map(|v| v["name"].clone()).collect();
    for container in list(&pod["containers"]).iter().chain(&list(&pod["initContainers"])) {
        for mount in list(&container["volumeMounts"]) {
            assert!(volumes.contains(&mount["name"]), "{mount}");
        }
        let loaded = load_container(container);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let mode =
            list(&container["env"]).into_iter().find(|v| v["name"] == "KUBE_PROXY_PROXY_MODE");
        if let Some(mode) = mode {
            assert_eq!(loaded.effective.mode.name(), mode["value"]);
        }
    }
}

/// What the binary makes of the command line and the variables of a container, with the shortest ConfigMap there is.
fn load_container(container: &Value) -> Loaded {
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    load_with(container, text)
}

fn load_with(container: &Value, config: &str) -> Loaded {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config).unwrap();
    let path = file.path().to_str().unwrap();
    let word = |word: &Value| -> OsString {
        word.as_str().unwrap().replace("/var/lib/kube-proxy/config.conf", path).into()
    };
    let variable = |name: &str| {
        let all = container["env"].as_array()?;
        let found = all.iter().find(|variable| variable["name"] == name)?;
        found["value"].as_str().map(str::to_owned)
    };
    let words = container["command"].as_array().expect("a command");
    assert_eq!(words[0], "/usr/local/bin/kube-proxy");
    let start = Start {
        args: words.iter().map(word).collect(),
        variable: &variable,
        host_name: &|| Ok("host".to_owned()),
        choose_mode: &|| unreachable!("the files name their mode"),
    };
    match load(&start).unwrap() {
        config::Command::Configured(loaded) => {
            assert_eq!(loaded.config_file.as_deref(), Some(file.path()));
            *loaded
        }
        other => panic!("{other:?}"),
    }
}

/// Runs a program, or `None` with a word about it if this machine does not have it. In CI that is a failure.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let Some(path) = tools::find(program) else {
        let needed = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!needed, "{program} is missing; `cargo xtask check-host` downloads it");
        println!("{program} is missing: what it would make of {arguments:?} is not checked");
        return None;
    };
    Some(Command::new(path).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}")))
}

/// The output of a program that succeeds.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = run(program, arguments)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// The objects of a kustomization below `deploy`, in an order of their own, as the kustomize inside `kubectl` builds them.
fn built(directory: &str) -> Option<Vec<Value>> {
    let path = deploy().join(directory);
    let text = output_of("kubectl", &["kustomize", path.to_str().unwrap()])?;
    let mut objects = documents(&text);
    objects.sort_by_key(|object| (object["kind"].to_string(), object["metadata"].to_string()));
    Some(objects)
}

/// Every seccomp rule allows, names are in order and each once, and nothing is allowed that reaches other processes or the system.
#[test]
fn the_seccomp_profile_is_a_short_list() {
    let profile: Value = serde_json::from_str(&read(&deploy().join("seccomp.json"))).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    let names: Vec<&str> =
        rules[0]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "in order, each once");
    for name in [
        "ptrace",
        "mount",
        "bpf",
        "setns",
        "unshare",
        "init_module",
        "finit_module",
        "reboot",
        "keyctl",
    ] {
        assert!(!names.contains(&name), "{name}");
    }
}
