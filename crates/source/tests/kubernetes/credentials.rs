//! Tokens, and programs that provide them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kube_proxy_source::kubernetes::Timing;
use serde_json::{Value, json};

use super::certificates::{Authority, server_config};
use super::front::Front;
use super::running::{HANG, Running, eventually, kubeconfig, quick, server, service};

/// A server that accepts only these tokens and has one Service.
fn guarded(tokens: &[&str]) -> fake_apiserver::ApiServer {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    server.faults().accept_only(tokens);
    server
}

fn often() -> Timing {
    Timing { credentials: Duration::from_millis(30), ..quick() }
}

#[test]
fn blanks_around_tokens_do_not_matter() {
    let server = guarded(&["secret"]);
    let folder = tempfile::tempdir().unwrap();
    let cluster = json!({"server": format!(" {} \n", server.url())});
    for token in ["secret\n", " secret\r\n", "\tsecret"] {
        let path = kubeconfig(folder.path(), &cluster, &json!({"token": token}));
        Running::by(&path).expect(&["a=10.96.0.1"]);
        std::fs::write(folder.path().join("token"), token).unwrap();
        let path = kubeconfig(folder.path(), &cluster, &json!({"tokenFile": "token"}));
        Running::by(&path).expect(&["a=10.96.0.1"]);
    }
}

#[test]
fn the_file_counts_before_the_token_beside_it() {
    let server = guarded(&["of-file"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "of-file\n").unwrap();
    let cluster = json!({"server": server.url()});
    let user = json!({"tokenFile": "token", "token": "inline"});
    let path = kubeconfig(folder.path(), &cluster, &user);
    Running::by(&path).expect(&["a=10.96.0.1"]);
    std::fs::remove_file(folder.path().join("token")).unwrap();
    server.faults().accept_only(&["inline"]);
    Running::by(&path).expect(&["a=10.96.0.1"]);
}

#[test]
fn a_token_file_is_read_again_in_time_and_when_it_is_refused() {
    for timing in [often(), Timing { credentials: HANG * 100, ..quick() }] {
        let server = guarded(&["one"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let cluster = json!({"server": server.url()});
        let path = kubeconfig(folder.path(), &cluster, &json!({"tokenFile": "token"}));
        let mut source = Running::by_with(&path, timing);
        source.expect(&["a=10.96.0.1"]);
        // An empty file is a token that is being written: the last one is kept.
        std::fs::write(&file, "").unwrap();
        server.faults().drop_watches();
        server.apply(service("b", "10.96.0.2")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
        std::fs::write(&file, "two\r\n").unwrap();
        server.faults().accept_only(&["two"]);
        server.faults().drop_watches();
        server.apply(service("c", "10.96.0.3")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2", "c=10.96.0.3"]);
    }
}

/// Writes a program that provides what stands in the file `credential`, and counts its runs.
fn plugin(folder: &Path) -> Value {
    let program = folder.join("plugin");
    let text = "#!/bin/sh\necho run >> \"$RUNS\"\nprintf %s \"$KUBERNETES_EXEC_INFO\" > \"$RUNS.info\"\n\
                cat \"$1\" || { echo no credential yet >&2; exit 3; }\n";
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin",
        "interactiveMode": "IfAvailable", "provideClusterInfo": true,
        "args": [folder.join("credential")],
        "env": [{"name": "RUNS", "value": folder.join("runs")}],
    }})
}

/// What the program provides from now on. It is replaced as a whole.
fn provide(folder: &Path, status: &Value) {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status,
    });
    std::fs::write(folder.join("fresh"), credential.to_string()).unwrap();
    std::fs::rename(folder.join("fresh"), folder.join("credential")).unwrap();
}

fn runs(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("runs")).unwrap_or_default().lines().count()
}

#[test]
fn a_plugin_that_fails_at_the_start_is_run_again() {
    let server = guarded(&["one"]);
    let folder = tempfile::tempdir().unwrap();
    let cluster = json!({"server": server.url()});
    let path = kubeconfig(folder.path(), &cluster, &plugin(folder.path()));
    let mut source = Running::by(&path);
    eventually("several runs", || runs(folder.path()) >= 3);
    assert!(!source.is_synced());
    provide(folder.path(), &json!({"token": "one"}));
    source.expect(&["a=10.96.0.1"]);
    let info = std::fs::read_to_string(folder.path().join("runs.info")).unwrap();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["spec"]["cluster"]["server"], server.url());
    assert_eq!(info["spec"]["interactive"], false);
}

#[test]
fn a_token_without_end_is_replaced_when_it_is_refused() {
    let server = guarded(&["one"]);
    let folder = tempfile::tempdir().unwrap();
    provide(folder.path(), &json!({"token": "one\n"}));
    let cluster = json!({"server": server.url()});
    let path = kubeconfig(folder.path(), &cluster, &plugin(folder.path()));
    let mut source = Running::by(&path);
    source.expect(&["a=10.96.0.1"]);
    assert_eq!(runs(folder.path()), 1, "it is valid until it is refused");
    provide(folder.path(), &json!({"token": "two"}));
    server.faults().accept_only(&["two"]);
    server.faults().drop_watches();
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
}

#[test]
fn a_token_that_has_ended_is_replaced() {
    let server = guarded(&["one"]);
    let folder = tempfile::tempdir().unwrap();
    let past = json!({"token": "one", "expirationTimestamp": "2020-01-01T00:00:00Z"});
    provide(folder.path(), &past);
    let cluster = json!({"server": server.url()});
    let path = kubeconfig(folder.path(), &cluster, &plugin(folder.path()));
    let mut source = Running::by(&path);
    source.expect(&["a=10.96.0.1"]);
    eventually("a run for each request", || runs(folder.path()) >= 4);
    let future = json!({"token": "one", "expirationTimestamp": "2999-01-01T00:00:00Z"});
    provide(folder.path(), &future);
    server.faults().drop_watches();
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
}

#[test]
fn a_plugin_provides_certificates_too() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let certificate = servers.issue(&["127.0.0.1"]);
    let front = Front::tls(&server, server_config(&certificate, Some(&clients.pem)));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca"), &servers.pem).unwrap();
    let status = || {
        let client = clients.issue(&["node"]);
        json!({"clientCertificateData": client.certificate, "clientKeyData": client.key})
    };
    provide(folder.path(), &status());
    let url = format!("https://{}", front.address);
    let cluster = json!({"server": url, "certificate-authority": "ca"});
    let path = kubeconfig(folder.path(), &cluster, &plugin(folder.path()));
    let mut source = Running::by(&path);
    source.expect(&["a=10.96.0.1"]);
    let first = front.clients().pop().unwrap();
    // 401 is what the server says to a certificate it does not like.
    provide(folder.path(), &status());
    server.faults().accept_only(&[]);
    server.faults().drop_watches();
    eventually("another certificate", || front.clients().pop().unwrap() != first);
}
