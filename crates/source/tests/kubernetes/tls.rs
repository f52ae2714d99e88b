//! Keys and certificates of all kinds.

use rcgen::SignatureAlgorithm;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use super::certificates::{
    Authority, Certified, both_purposes, expired, for_clients, not_valid_yet, self_signed,
    server_config, server_config_with,
};
use super::front::Front;
use super::logs::logged_with;
use super::running::{Running, eventually, kubeconfig, server, service};

/// Objects arrive from a server with this certificate if the client trusts that one.
fn accepted(certificate: &Certified, trusted: &str) {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let front = Front::tls(&server, server_config(certificate, None));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca"), trusted).unwrap();
    let url = format!("https://{}", front.address);
    let cluster = json!({"server": url, "certificate-authority": "ca"});
    Running::by(&kubeconfig(folder.path(), &cluster, &json!({}))).expect(&["a=10.96.0.1"]);
}

/// Nothing is sent to a server with this certificate; what the log says about it.
fn refused(certificate: &Certified, trusted: &str, further: &Value) -> String {
    let server = server();
    let front = Front::tls(&server, server_config(certificate, None));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca"), trusted).unwrap();
    let mut cluster =
        json!({"server": format!("https://{}", front.address), "certificate-authority": "ca"});
    cluster.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let kubeconfig = Some(kubeconfig(folder.path(), &cluster, &json!({})));
    let options = kube_proxy_source::KubernetesOptions {
        kubeconfig,
        ..kube_proxy_source::KubernetesOptions::default()
    };
    let lines = logged_with(options, async {
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    });
    assert!(!lines.is_empty());
    assert_eq!(front.connections(), 0, "no handshake is completed");
    lines[0].clone()
}

#[test]
fn a_server_is_trusted_by_its_own_certificate() {
    let own = self_signed(&["127.0.0.1"], |_| {});
    accepted(&own, &own.certificate);
    let other = Authority::new("other");
    accepted(&own, &format!("{}{}", other.pem, own.certificate));
    let for_servers = self_signed(&["127.0.0.1"], both_purposes);
    accepted(&for_servers, &for_servers.certificate);
    let issued = Authority::new("unknown").issue(&["127.0.0.1"]);
    accepted(&issued, &issued.certificate);
}

#[test]
fn a_certificate_that_is_trusted_by_itself_is_still_checked() {
    let none = json!({});
    let wrong = self_signed(&["192.0.2.1"], |_| {});
    let said = refused(&wrong, &wrong.certificate, &none);
    assert!(said.contains("the server's certificate is not for 127.0.0.1"), "{said}");
    let old = self_signed(&["127.0.0.1"], expired);
    let said = refused(&old, &old.certificate, &none);
    assert!(said.contains("the server's certificate has expired"), "{said}");
    let young = self_signed(&["127.0.0.1"], not_valid_yet);
    let said = refused(&young, &young.certificate, &none);
    assert!(said.contains("is not valid yet"), "{said}");
    let client = self_signed(&["127.0.0.1"], for_clients);
    let said = refused(&client, &client.certificate, &none);
    assert!(said.contains("is not for servers"), "{said}");
    // The same name and another key.
    let (one, other) = (self_signed(&["127.0.0.1"], |_| {}), self_signed(&["127.0.0.1"], |_| {}));
    let said = refused(&one, &other.certificate, &none);
    assert!(said.contains("the server's certificate is"), "{said}");
    let own = self_signed(&["127.0.0.1"], |_| {});
    let said = refused(&own, &own.certificate, &json!({"tls-server-name": "api.example.com"}));
    assert!(said.contains("not for api.example.com"), "{said}");
    let leaf = Authority::new("unknown").issue_with(
        &["127.0.0.1"],
        &rcgen::PKCS_ECDSA_P256_SHA256,
        expired,
    );
    let said = refused(&leaf, &leaf.certificate, &none);
    assert!(said.contains("has expired"), "{said}");
}

#[test]
fn a_trusted_leaf_signs_nothing() {
    // One who holds the key of a trusted leaf is that server, and no authority.
    let authority = Authority::new("ca");
    let leaf = authority.issue(&["192.0.2.1"]);
    let other = authority.issue(&["127.0.0.1"]);
    let said = refused(&other, &leaf.certificate, &json!({}));
    assert!(said.contains("is not signed by a trusted certificate authority"), "{said}");
}

#[test]
fn a_server_can_be_known_by_another_name() {
    let authority = Authority::new("ca");
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let certificate = authority.issue(&["api.example.com"]);
    let front = Front::tls(&server, server_config(&certificate, None));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca"), &authority.pem).unwrap();
    let url = format!("https://{}", front.address);
    let cluster = json!({
        "server": url, "certificate-authority": "ca", "tls-server-name": "api.example.com",
    });
    Running::by(&kubeconfig(folder.path(), &cluster, &json!({}))).expect(&["a=10.96.0.1"]);
    let unchecked = json!({"server": url, "insecure-skip-tls-verify": true});
    Running::by(&kubeconfig(folder.path(), &unchecked, &json!({}))).expect(&["a=10.96.0.1"]);
}

/// Authority, server and client have keys of one kind.
fn works(
    algorithm: &'static SignatureAlgorithm,
    versions: &[&'static rustls::SupportedProtocolVersion],
) {
    let authority = Authority::with("ca", algorithm);
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let certificate = authority.issue_with(&["127.0.0.1"], algorithm, both_purposes);
    let client = authority.issue_with(&["node"], algorithm, for_clients);
    let config = server_config_with(&certificate, Some(&authority.pem), versions);
    let front = Front::tls(&server, config);
    let folder = tempfile::tempdir().unwrap();
    let data = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let cluster = json!({
        "server": format!("https://{}", front.address),
        "certificate-authority-data": data(&authority.pem),
    });
    let user = json!({
        "client-certificate-data": data(&client.certificate), "client-key-data": data(&client.key),
    });
    Running::by(&kubeconfig(folder.path(), &cluster, &user)).expect(&["a=10.96.0.1"]);
    assert!(front.clients().iter().all(Option::is_some));
}

#[test]
fn keys_of_all_kinds_in_both_versions_of_tls() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ED25519,
    ] {
        works(algorithm, &[&TLS12]);
        works(algorithm, &[&TLS13]);
    }
}

#[test]
fn keys_that_quantum_computers_do_not_break() {
    for algorithm in [&rcgen::PKCS_ML_DSA_44, &rcgen::PKCS_ML_DSA_65, &rcgen::PKCS_ML_DSA_87] {
        works(algorithm, &[&TLS13]);
    }
}

#[test]
fn plain_http_where_tls_is_expected_is_said() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let url = server.url().replace("http://", "https://");
    let cluster = json!({"server": url, "insecure-skip-tls-verify": true});
    let options = kube_proxy_source::KubernetesOptions {
        kubeconfig: Some(kubeconfig(folder.path(), &cluster, &json!({}))),
        ..kube_proxy_source::KubernetesOptions::default()
    };
    let lines = logged_with(options, async {
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    });
    assert!(lines[0].contains("the server does not speak TLS"), "{lines:#?}");
    eventually("no watch", || server.open_watches("services") == 0);
}
