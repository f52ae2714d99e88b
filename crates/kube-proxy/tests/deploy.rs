//! The manifests in `deploy/` hold what the Kubernetes API knows, field by field, and a command line that this binary takes.

use std::ffi::OsString;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube_proxy::config::{Command, Start, load};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn documents() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kube-proxy.yaml");
    let text = std::fs::read_to_string(path).expect("the manifest file");
    serde_saphyr::from_multiple(&text).expect("YAML documents")
}

/// A field that the type does not know is lost on the way there and back.
fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).expect("an object of its kind");
    serde_json::to_value(typed).expect("JSON")
}

#[test]
fn manifests_are_valid() {
    let mut kinds = Vec::new();
    for object in documents() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let back = match kind.as_str() {
            "ServiceAccount" => round_trip::<ServiceAccount>(&object),
            "ClusterRoleBinding" => round_trip::<ClusterRoleBinding>(&object),
            "DaemonSet" => round_trip::<DaemonSet>(&object),
            other => panic!("unexpected kind {other}"),
        };
        assert_eq!(back, object);
        kinds.push(kind);
    }
    assert_eq!(kinds, ["ServiceAccount", "ClusterRoleBinding", "DaemonSet"]);
}

#[test]
fn the_command_line_is_one_of_ours() {
    let daemon_set = documents().into_iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let command = &daemon_set["spec"]["template"]["spec"]["containers"][0]["command"];
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let word = |word: &Value| -> OsString {
        word.as_str().unwrap().replace("/var/lib/kube-proxy/config.conf", path).into()
    };
    let start = Start {
        args: command.as_array().unwrap().iter().map(word).collect(),
        variable: &|_| None,
        host_name: &|| Ok("host".to_owned()),
    };
    match load(&start).unwrap() {
        Command::Configured(loaded) => {
            assert_eq!(loaded.config_file.as_deref(), Some(file.path()));
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        }
        other => panic!("{other:?}"),
    }
}
