//! Changes that turn an object into another one, while the proxy runs and while it does not.

use anyhow::Context as _;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::Outcome;
use serde_json::{Value, json};

use super::Siege;
use crate::objects::{Svc, cluster_ip, external_ip};
use crate::traffic::{becomes, ends};
use crate::world::{From, Mode, TARGET, World, cluster_address};

const NUMBER: u8 = 20;
const OTHER: u8 = 21;
const NAME: &str = "changing";

/// What it is, step by step; each step replaces the one before.
fn steps() -> Vec<(&'static str, Svc)> {
    let plain = || Svc::new(NAME, NUMBER);
    let renamed = |name: &str| plain().with("/spec/ports/0/name", name);
    let ips = |number| IpFamily::BOTH.map(|family| cluster_ip(number, family).to_string());
    vec![
        ("ClusterIP", plain()),
        (
            "ExternalName",
            plain().with("/spec/type", "ExternalName").with("/spec/externalName", "x.example"),
        ),
        ("ClusterIP again", plain()),
        ("NodePort", plain().node_port()),
        ("LoadBalancer", plain().load_balancer().external_local()),
        (
            "headless",
            plain().with("/spec/clusterIP", "None").with("/spec/clusterIPs", json!(["None"])),
        ),
        ("port renamed", renamed("q")),
        ("port renamed back", renamed("p")),
        ("UDP", plain().udp()),
        ("external IPs", plain().external_ips()),
        (
            "other address",
            plain()
                .with("/spec/clusterIP", ips(OTHER)[0].clone())
                .with("/spec/clusterIPs", ips(OTHER).to_vec()),
        ),
        ("address back", plain()),
        (
            "one family",
            plain()
                .with("/spec/clusterIPs", json!([ips(NUMBER)[0]]))
                .with("/spec/ipFamilies", json!(["IPv4"])),
        ),
        ("other uid", plain().with("/metadata/uid", "00000000-0000-0000-0000-000000000001")),
        (
            "another proxy's",
            plain().with(
                "/metadata/labels",
                json!({ "service.kubernetes.io/service-proxy-name": "x" }),
            ),
        ),
        ("ours again", plain().with("/metadata/labels", json!({}))),
    ]
}

fn apply(world: &World, service: &Svc) -> anyhow::Result<()> {
    // The slices of the other family may be those of a Service that no longer has it.
    world.apply([service.object()])?;
    world.apply(service.slices(TARGET, &world.endpoints(&["local-2"])))
}

/// Whether it answers, where it is.
fn check(siege: &Siege, what: &str, service: &Svc) {
    let object = service.object();
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let foreign =
        object["metadata"]["labels"].get("service.kubernetes.io/service-proxy-name").is_some();
    let none = foreign || text(&spec["type"]) == "ExternalName";
    for (index, family) in IpFamily::BOTH.into_iter().enumerate() {
        // The other address only where it may have come or gone: silence takes its time.
        let numbers = if what.contains("address") { vec![NUMBER, OTHER] } else { vec![NUMBER] };
        for to in numbers.into_iter().map(|number| cluster_address(number, family)) {
            let listed = text(&spec["clusterIPs"][index]) == to.ip().to_string();
            let probe = siege.world.probe(From::Pod("client"));
            if !listed || none {
                ends(probe, to, |outcome| !matches!(outcome, Outcome::Answer(_)));
            } else if text(&spec["ports"][0]["protocol"]) == "TCP" {
                becomes(probe, to, "local-2");
            } else {
                let answer = probe.udp(to).answer();
                assert!(answer.is_ok_and(|answer| answer.pod == "local-2"), "UDP {to}");
            }
        }
    }
}

/// After each step the Service answers where it is, and nowhere else.
pub(super) fn one_by_one(mode: Mode) -> anyhow::Result<()> {
    let siege = Siege::begin(mode)?;
    for (what, service) in steps() {
        apply(&siege.world, &service).context(what)?;
        siege.holds().context(what)?;
        check(&siege, what, &service);
        // Deleted and made again, faster than anybody looks.
        if what == "other uid" {
            siege.world.delete("services", NAME)?;
            siege.world.apply([service.object()])?;
            siege.holds().context(what)?;
            check(&siege, what, &service);
        }
    }
    siege.end()
}

/// The same, each step while no proxy runs; the one before may have been anything.
pub(super) fn while_down(mode: Mode) -> anyhow::Result<()> {
    let mut siege = Siege::begin(mode)?;
    let mut external = false;
    for (what, service) in steps().into_iter().step_by(3) {
        siege.world.stop()?;
        apply(&siege.world, &service).context(what)?;
        siege.world.start()?;
        siege.holds().context(what)?;
        check(&siege, what, &service);
        let to = std::net::SocketAddr::new(external_ip(NUMBER, IpFamily::V4), 80);
        if external {
            ends(siege.world.probe(From::Outside), to, |o| !matches!(o, Outcome::Answer(_)));
        }
        external = service.object()["spec"]["externalIPs"].is_array();
        if external {
            becomes(siege.world.probe(From::Outside), to, "local-2");
        }
    }
    siege.end()
}
