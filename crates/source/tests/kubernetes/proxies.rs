//! Proxies between the node and the API server.

use std::time::Duration;

use serde_json::json;

use super::certificates::{Authority, server_config};
use super::front::Front;
use super::proxy_server::{ProxyServer, Speaks};
use super::running::{Running, eventually, kubeconfig, server, service};

/// Only a proxy can know this name.
const NAME: &str = "api.cluster.invalid";

/// Objects arrive through a proxy over TLS; what it was asked for.
fn asked(
    speaks: Speaks,
    user: Option<&'static str>,
    authority: &Authority,
    url: &str,
) -> Vec<String> {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let front = Front::tls(&server, server_config(&authority.issue(&[NAME]), None));
    let proxy = ProxyServer::start(speaks, front.address, user);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca"), &authority.pem).unwrap();
    let cluster = json!({
        "server": format!("https://{NAME}:6443"), "certificate-authority": "ca",
        "proxy-url": url.replace("PORT", &proxy.address.port().to_string()),
    });
    let mut source = Running::by(&kubeconfig(folder.path(), &cluster, &json!({})));
    source.expect(&["a=10.96.0.1"]);
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    proxy.asked()
}

#[test]
fn http_proxies_connect() {
    let authority = Authority::new("ca");
    let asked = asked(Speaks::Http, None, &authority, "http://127.0.0.1:PORT");
    let line = format!("CONNECT {NAME}:6443 HTTP/1.1");
    assert!(asked.len() >= 4 && asked.iter().all(|asked| *asked == line), "{asked:?}");
}

#[test]
fn http_proxies_ask_who_we_are() {
    let authority = Authority::new("ca");
    let url = "http://me:p%40ss@127.0.0.1:PORT/";
    asked(Speaks::Http, Some("me:p@ss"), &authority, url);
}

#[test]
fn https_proxies_connect_inside_tls() {
    let authority = Authority::new("ca");
    let tls = server_config(&authority.issue(&["localhost"]), None);
    let url = "https://me:pass@localhost:PORT";
    let asked = asked(Speaks::Https(tls), Some("me:pass"), &authority, url);
    assert!(asked[0].starts_with(&format!("CONNECT {NAME}:6443")), "{asked:?}");
}

#[test]
fn socks5_proxies_look_names_up() {
    let authority = Authority::new("ca");
    let without = asked(Speaks::Socks5, None, &authority, "socks5://127.0.0.1:PORT");
    assert!(without.iter().all(|asked| *asked == format!("{NAME} 6443")), "{without:?}");
    let url = "socks5://me:pass@127.0.0.1:PORT";
    asked(Speaks::Socks5, Some("me:pass"), &authority, url);
}

#[test]
fn without_tls_a_proxy_gets_the_requests() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let proxy = ProxyServer::start(Speaks::Http, server.address(), Some("me:pass"));
    let folder = tempfile::tempdir().unwrap();
    let cluster = json!({
        "server": format!("http://{NAME}:8080/base"),
        "proxy-url": format!("http://me:pass@{}", proxy.address),
    });
    // The double has no base path, so what arrives is enough.
    let source = Running::by(&kubeconfig(folder.path(), &cluster, &json!({})));
    let begin = format!("GET http://{NAME}:8080/base/api/v1/services?");
    eventually("a whole URL", || proxy.asked().iter().any(|line| line.starts_with(&begin)));
    drop(source);
    let cluster = json!({
        "server": format!("http://{NAME}:8080"),
        "proxy-url": format!("http://me:pass@{}", proxy.address),
    });
    let mut source = Running::by(&kubeconfig(folder.path(), &cluster, &json!({})));
    source.expect(&["a=10.96.0.1"]);
}

#[test]
fn a_proxy_that_is_away_or_refuses_is_tried_again() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let refusing = ProxyServer::start(Speaks::Http, server.address(), Some("me:pass"));
    let folder = tempfile::tempdir().unwrap();
    let proxy = refusing.address;
    let cluster =
        json!({"server": "https://10.0.0.1:6443", "proxy-url": format!("http://{proxy}")});
    let path = kubeconfig(folder.path(), &cluster, &json!({}));
    let mut source = Running::by(&path);
    eventually("several attempts", || refusing.asked().len() >= 6);
    assert!(!source.is_synced());
    drop(refusing);
    drop(source);
    let options = kube_proxy_source::KubernetesOptions {
        kubeconfig: Some(path),
        ..kube_proxy_source::KubernetesOptions::default()
    };
    let lines = super::logs::logged_with(options, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    let expected = format!("through the proxy http://{proxy}: {proxy}: Connection refused");
    assert!(lines[0].contains(&expected), "{lines:#?}");
}
