//! The node gets another address while the proxy runs.

use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use kube_proxy_core::{IpFamily, PerFamily};
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::probe::Outcome;
use serde_json::json;

use crate::objects::{Svc, node};
use crate::traffic::{Traffic, becomes, ends};
use crate::world::{From, Mode, NODE, World, cluster_address};

/// An address of the fabric that nothing has.
pub(crate) fn spare(family: IpFamily) -> IpAddr {
    match plan::fabric_net().get(family).network() {
        IpAddr::V4(ip) => IpAddr::from((ip.to_bits() + 78).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((ip.to_bits() + 0x78).to_be_bytes()),
    }
}

/// Node ports are on the primary addresses, which the Node object names: they follow it, and what is not about them is not disturbed.
pub(super) fn address_changes(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::with_flags(mode, &["--nodeport-addresses=localhost,primary"])?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    world.settle()?;
    let old = PerFamily::from_fn(|family| world.node_port(1, family));
    let new = PerFamily::from_fn(|family| SocketAddr::new(spare(family), old.get(family).port()));
    for family in IpFamily::BOTH {
        world.cluster.node(0).add_address(spare(family))?;
        becomes(world.probe(From::Outside), *old.get(family), "local-1");
        // Both addresses are the node's, but only one is primary.
        ends(world.probe(From::Outside), *new.get(family), Outcome::is_refused);
    }
    let flows =
        IpFamily::BOTH.map(|family| (world.probe(From::Pod("client")), cluster_address(1, family)));
    let traffic = Traffic::start(&flows)?;
    let mut object = node(NODE, 0, "zone-a");
    for (index, family) in IpFamily::BOTH.into_iter().enumerate() {
        object["status"]["addresses"][index]["address"] = json!(spare(family).to_string());
    }
    world.apply([object])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Outside), *new.get(family), "local-1");
        ends(world.probe(From::Outside), *old.get(family), Outcome::is_refused);
    }
    // Later changes arrive as ever.
    world.serve(&Svc::new("web", 1).node_port(), &["local-2"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Outside), *new.get(family), "local-2");
    }
    traffic.stop()?;
    ensure!(world.proxy_mut().is_running(), "the process ended");
    Ok(())
}
