//! Certificates and keys that are replaced while the source runs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use kube_proxy_source::kubernetes::Timing;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::certificates::{Authority, Certified, server_config};
use super::front::Front;
use super::running::{Running, eventually, kubeconfig, quick, server, service};

/// Replaces all files at once, as a mounted Secret does: `..data` points to a folder.
fn publish(folder: &Path, generation: &str, files: &[(&str, &str)]) {
    let fresh = folder.join(generation);
    std::fs::create_dir(&fresh).unwrap();
    for (name, content) in files {
        std::fs::write(fresh.join(name), content).unwrap();
    }
    let (link, data) = (folder.join("link"), folder.join("..data"));
    symlink(generation, &link).unwrap();
    std::fs::rename(&link, &data).unwrap();
}

fn user() -> Value {
    json!({"client-certificate": "..data/crt", "client-key": "..data/key"})
}

fn der(certified: &Certified) -> Vec<u8> {
    CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap().to_vec()
}

fn often() -> Timing {
    Timing { credentials: Duration::from_millis(30), ..quick() }
}

#[test]
fn a_new_client_certificate_is_used_at_once_and_old_connections_end() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let certificate = servers.issue(&["127.0.0.1"]);
    let front = Front::tls(&server, server_config(&certificate, Some(&clients.pem)));
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (clients.issue(&["node"]), clients.issue(&["node"]));
    let files = |certified: &Certified| (certified.certificate.clone(), certified.key.clone());
    let (crt, key) = files(&old);
    publish(folder.path(), "1", &[("crt", &crt), ("key", &key), ("ca", &servers.pem)]);
    let url = format!("https://{}", front.address);
    let cluster = json!({"server": url, "certificate-authority": "..data/ca"});
    let mut source = Running::by_with(&kubeconfig(folder.path(), &cluster, &user()), often());
    source.expect(&["a=10.96.0.1"]);
    assert!(front.clients().iter().all(|client| *client == Some(der(&old))));
    source.until("four watches", |_| front.open() >= 4);

    let lists = source.lists_done(kube_proxy_core::Kind::Service);
    let (crt, key) = files(&new);
    publish(folder.path(), "2", &[("crt", &crt), ("key", &key), ("ca", &servers.pem)]);
    let with_new = || front.clients().iter().filter(|client| **client == Some(der(&new))).count();
    eventually("four connections with the new certificate", || with_new() >= 4);
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    assert_eq!(source.lists_done(kube_proxy_core::Kind::Service), lists, "the watch continues");
    eventually("the old connections end", || front.open() == with_new());

    // Half of the pair, or none of it, changes nothing.
    publish(
        folder.path(),
        "3",
        &[("crt", &old.certificate), ("key", &new.key), ("ca", &servers.pem)],
    );
    server.faults().drop_watches();
    server.apply(service("c", "10.96.0.3")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2", "c=10.96.0.3"]);
    publish(folder.path(), "4", &[]);
    server.faults().drop_watches();
    server.delete("services", "ns", "c").unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    let after = front.clients();
    assert_eq!(after.last().unwrap(), &Some(der(&new)));
}

#[test]
fn a_new_certificate_authority_is_trusted_and_an_old_one_is_not() {
    let (old, new) = (Authority::new("one"), Authority::new("two"));
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let front = Front::tls(&server, server_config(&old.issue(&["127.0.0.1"]), None));
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), "1", &[("ca", &old.pem)]);
    let url = format!("https://{}", front.address);
    let cluster = json!({"server": url, "certificate-authority": "..data/ca"});
    let path = kubeconfig(folder.path(), &cluster, &json!({}));
    let mut source = Running::by_with(&path, often());
    source.expect(&["a=10.96.0.1"]);

    front.replace(server_config(&new.issue(&["127.0.0.1"]), None));
    let before = front.connections();
    server.faults().drop_watches();
    server.apply(service("b", "10.96.0.2")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(source.now().services, ["a=10.96.0.1"], "the new one is not trusted yet");
    assert_eq!(front.connections(), before);
    publish(folder.path(), "2", &[("ca", &new.pem)]);
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
}

#[test]
fn production_looks_at_the_files_more_than_once_a_minute() {
    assert!(Timing::default().credentials < Duration::from_mins(1));
}
