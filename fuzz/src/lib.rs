//! Everything that reads bytes which others wrote, each as a function that must not panic.
//!
//! `cargo xtask fuzz TARGET` looks for bytes that break one, and the test of this package repeats what was found and what is typical:
//! `corpus/TARGET/`.

use std::hint::black_box;

use kube_proxy_core::Kind;
use kube_proxy_source::decode::{self, Format};
use kube_proxy_source::{Context, fuzzing as source};

/// A reader.
pub struct Target {
    /// Its name, and that of its directory in the corpus.
    pub name: &'static str,
    /// What it reads.
    pub what: &'static str,
    /// Reads; panics where the reader is wrong.
    pub read: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "netlink",
        what: "datagrams of the kernel: nf_tables, conntrack, IPVS, ipset, accounting, links, addresses, routes, errors",
        read: kube_proxy_netlink::fuzzing::datagram,
    },
    Target { name: "json", what: "responses of the API server in JSON", read: json },
    Target { name: "protobuf", what: "responses of the API server in protobuf", read: protobuf },
    Target { name: "lines", what: "a watch response, cut into lines", read: lines },
    Target { name: "manifest", what: "files of manifests", read: manifest },
    Target { name: "kubeconfig", what: "kubeconfigs", read: source::kubeconfig },
    Target { name: "certificate", what: "certificates in DER", read: source::certificate },
    Target { name: "configuration", what: "KubeProxyConfiguration", read: configuration },
    Target { name: "request", what: "requests to the HTTP servers", read: request },
    Target { name: "listing", what: "output of iptables-save", read: listing },
    Target {
        name: "text",
        what: "other text: errors and versions of iptables, connections of IPVS, names of chains",
        read: text,
    },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The kind of object that the first byte stands for, and the other bytes.
fn kind(bytes: &[u8]) -> Option<(Kind, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let kinds = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];
    Some((kinds[usize::from(first % 4)], rest))
}

fn response(format: Format, bytes: &[u8]) {
    let Some((kind, body)) = kind(bytes) else { return };
    let context = Context::default();
    let mut objects = 0;
    let page = decode::page(format, kind, body, &context, &mut |_| objects += 1);
    assert!(page.is_ok() || objects == 0, "objects of a page that cannot be read");
    black_box(decode::watch_event(format, kind, body, &context).is_ok());
    black_box(decode::status(body));
}

fn json(bytes: &[u8]) {
    response(Format::Json, bytes);
}

fn protobuf(bytes: &[u8]) {
    response(Format::Protobuf, bytes);
}

fn lines(bytes: &[u8]) {
    let Some((size, stream)) = bytes.split_first() else { return };
    source::lines(stream, usize::from(*size));
}

fn manifest(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        source::manifest(text);
    }
}

fn configuration(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        kube_proxy_config::fuzzing::configuration(text);
    }
}

fn request(bytes: &[u8]) {
    kube_proxy::fuzzing::request(bytes);
}

fn listing(bytes: &[u8]) {
    kube_proxy_iptables::fuzzing::listing(&String::from_utf8_lossy(bytes));
}

fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    kube_proxy_xtables::fuzzing::messages(&text);
    kube_proxy_ipvs::fuzzing::connections(&text);
    text.lines().for_each(|line| drop(black_box(kube_proxy_nftables::chain_meaning(line))));
}
