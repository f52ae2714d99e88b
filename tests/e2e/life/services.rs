//! Services that come, change and go.

use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::Outcome;
use serde_json::json;
use std::net::SocketAddr;

use crate::objects::{Svc, cluster_ip};
use crate::traffic::{Traffic, becomes, ends, works};
use crate::world::{From, Mode, OTHER_TARGET, World, cluster_address};

const CLIENT: From = From::Pod("client");

/// A deleted Service is not served any more; one of the same name with other addresses is, there and only there.
pub(super) fn recreated(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let old = Svc::new("web", 1).load_balancer().external_ips();
    world.serve(&old, &["local-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(1, family), "local-1");
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    world.delete("Service", "web")?;
    for family in IpFamily::BOTH {
        ends(world.probe(CLIENT), cluster_address(1, family), Outcome::is_timed_out);
        ends(world.probe(From::Outside), world.node_port(1, family), Outcome::is_refused);
    }
    // The slices are still there.
    world.apply([Svc::new("web", 2).node_port().object()])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(2, family), "local-1");
        becomes(world.probe(From::Outside), world.node_port(2, family), "local-1");
        ends(world.probe(CLIENT), cluster_address(1, family), Outcome::is_timed_out);
        ends(world.probe(From::Outside), world.node_port(1, family), Outcome::is_refused);
    }
    Ok(())
}

/// ClusterIP, NodePort, ExternalName and ClusterIP again.
pub(super) fn type_changed(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let plain = Svc::new("web", 1);
    world.serve(&plain, &["local-1"])?;
    each_family(|family| {
        becomes(world.probe(CLIENT), cluster_address(1, family), "local-1");
        ends(world.probe(From::Outside), world.node_port(1, family), Outcome::is_refused);
    });
    world.apply([plain.clone().node_port().object()])?;
    each_family(|family| {
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
        becomes(world.probe(CLIENT), cluster_address(1, family), "local-1");
    });
    // The API server keeps the cluster IP where a user changes nothing but the type.
    let named =
        plain.clone().with("/spec/type", "ExternalName").with("/spec/externalName", "x.example");
    world.apply([named.object()])?;
    each_family(|family| {
        ends(world.probe(CLIENT), cluster_address(1, family), Outcome::is_timed_out);
        ends(world.probe(From::Outside), world.node_port(1, family), Outcome::is_refused);
    });
    world.apply([plain.object()])?;
    each_family(|family| becomes(world.probe(CLIENT), cluster_address(1, family), "local-1"));
    Ok(())
}

/// A port is added and removed again; the other one does not notice.
pub(super) fn ports_changed(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let one = Svc::new("web", 1).node_port();
    world.serve(&one, &["local-1"])?;
    world.settle()?;
    let traffic = Traffic::to_service(&world, 1)?;
    let second = json!({ "name": "q", "protocol": "TCP", "port": 81, "nodePort": 31_001 });
    let mut two = one.object();
    two["spec"]["ports"].as_array_mut().expect("a list").push(second);
    let mut slices = one.slices(crate::world::TARGET, &world.endpoints(&["local-1"]));
    for slice in &mut slices {
        let port = json!({ "name": "q", "protocol": "TCP", "port": OTHER_TARGET });
        slice["ports"].as_array_mut().expect("a list").push(port);
    }
    world.apply([two])?;
    world.apply(slices)?;
    let node = |family| SocketAddr::new(world.cluster.node(0).ip(family), 31_001);
    let second = |family| SocketAddr::new(cluster_ip(1, family), 81);
    each_family(|family| {
        works(world.probe(CLIENT), second(family));
        works(world.probe(From::Outside), node(family));
    });
    world.serve(&one, &["local-1"])?;
    each_family(|family| {
        ends(world.probe(CLIENT), second(family), unused_port(mode));
        ends(world.probe(From::Outside), node(family), Outcome::is_refused);
    });
    traffic.stop()?;
    Ok(())
}

/// What becomes of a connection to a port of a cluster IP that its Service does not have.
fn unused_port(mode: Mode) -> fn(&Outcome) -> bool {
    match mode {
        Mode::Nftables | Mode::Ipvs => Outcome::is_refused,
        _ => Outcome::is_timed_out,
    }
}

fn each_family(check: impl Fn(IpFamily)) {
    IpFamily::BOTH.into_iter().for_each(check);
}
