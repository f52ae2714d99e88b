//! What `explain` says of the node: that what serves a frontend is there, and what was removed by hand.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_netlink::ipvs::{Change, Ipvs, ServerKey};
use kube_proxy_testkit::eventually::eventually;

use super::{ask, named};
use crate::objects::Svc;
use crate::world::{GUARD, Mode, World, cluster_address};

/// What serves each kind of frontend is on the node, also without endpoints: nothing is missing or in the way.
pub(super) fn on_the_node(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    world.serve(&Svc::new("web", 1).load_balancer().external_ips(), &["local-1", "remote-1"])?;
    world.serve(
        &Svc::new("near", 2).load_balancer().external_local().affinity(300),
        &["local-1", "remote-1"],
    )?;
    world.serve(&Svc::new("far", 3).load_balancer().external_local(), &["remote-1"])?;
    world.serve(&Svc::new("nobody", 4).node_port(), &[])?;
    let ranges = ["192.0.2.0/24".to_owned(), "2001:db8:192::/64".to_owned()].to_vec();
    let ranges =
        Svc::new("ranges", 5).load_balancer().with("/spec/loadBalancerSourceRanges", ranges);
    world.serve(&ranges, &["local-1"])?;
    world.serve(&Svc::new("dns", 6).udp().node_port(), &["local-1"])?;
    world.settle()?;
    let page =
        world.cluster.node(0).probe().http_get("127.0.0.1:10249".parse()?, "/debug/services")?;
    let page: serde_json::Value = serde_json::from_str(&page.body)?;
    let ports = page["servicePorts"].as_array().context("servicePorts")?;
    let mut asked = 0;
    for port in ports.iter().filter(|port| port["namespace"] == "default") {
        let protocol = port["protocol"].as_str().context("protocol")?.to_lowercase();
        for frontend in port["frontends"].as_array().context("frontends")? {
            let number = frontend["port"].as_u64().context("port")?;
            let number = u16::try_from(number)?;
            let to = match frontend["address"].as_str() {
                Some(ip) => SocketAddr::new(ip.parse()?, number).to_string(),
                None => format!(":{number}"),
            };
            let line = format!("explain {to}/{protocol} -o json");
            let answer: serde_json::Value = serde_json::from_str(&ask(&world, &line)?.out)?;
            for path in answer["paths"].as_array().context("paths")? {
                let held = &path["onNode"];
                let right = held["wrong"] == 0 && held["failure"].is_null();
                ensure!(right && held["total"].as_u64() > Some(0), "{line}: {held:#}");
                asked += 1;
            }
        }
    }
    ensure!(asked > 30, "only {asked} frontends");
    Ok(())
}

/// Something of the Service that is removed by hand, in one family, and how it is named.
fn remove(world: &World, mode: Mode, family: IpFamily) -> anyhow::Result<String> {
    let to = cluster_address(1, family);
    let iptables = |command: &str| {
        let words: Vec<_> = command.split(' ').collect();
        world.on_node(&mode.program(family, ""), &words)
    };
    match mode {
        Mode::Nftables => {
            let table = if family == IpFamily::V4 { "ip" } else { "ip6" };
            let element = format!("{} . tcp . 80", to.ip());
            let command = format!("delete element {table} kube-proxy frontend-ips {{ {element} }}");
            world.on_node("nft", &[&command])?;
            Ok(format!("missing element frontend-ips: {element}"))
        }
        Mode::IptablesLegacy | Mode::IptablesNft => {
            let rules = world.on_node(&mode.program(family, "-save"), &["-t", "nat"])?;
            let of_web =
                |line: &&str| line.starts_with("-A KUBE-SVC-") && line.contains("default/web");
            let rule = rules.lines().find(of_web).context("no chain of the Service")?;
            let chain = rule.split(' ').nth(1).context("chain")?;
            iptables(&format!("-t nat -F {chain}"))?;
            Ok(format!("missing rule nat -A {chain} "))
        }
        Mode::Userspace => {
            iptables("-t nat -F KUBE-PORTALS-HOST")?;
            Ok(format!("missing rule nat -A KUBE-PORTALS-HOST -d {}/", to.ip()))
        }
        Mode::Ipvs => {
            let netns = world.cluster.node(0).netns();
            let key = netns.run(|| -> anyhow::Result<_> {
                let key = ServerKey::Frontend { protocol: 6, address: to };
                let refused = Ipvs::open()?.change(&[Change::Delete(key)])?;
                ensure!(refused.is_empty(), "{refused:?}");
                Ok(key)
            })?;
            Ok(format!("missing virtual server {key}"))
        }
    }
}

/// It is named on the first screen. The nftables mode is notified and repairs it at once, and then the answer says that it did.
pub(super) fn removed_by_hand(mode: Mode) -> anyhow::Result<()> {
    let periods = ["--iptables-sync-period=1h", "--ipvs-sync-period=1h"];
    let world = World::with_flags(mode, &periods)?;
    world.serve(&Svc::new("web", 1), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("other", 2), &["local-1"])?;
    world.settle()?;
    let right = "On the node   all that serves it is as it should be";
    for family in IpFamily::BOTH {
        let line = format!("explain {}", cluster_address(1, family));
        let other = format!("explain {}", cluster_address(2, family));
        named(&world, &line, &[right])?;
        named(&world, &other, &[right])?;
        let name = remove(&world, mode, family)?;
        named(&world, &line, &["On the node", &name])?;
        if mode == Mode::Nftables {
            eventually(GUARD, || named(&world, &line, &[right, &format!("ago: {name}")]));
            continue;
        }
        let but = "as it should be for that";
        let buts = "as they should be for that";
        let out = ask(&world, &line)?.out;
        ensure!(out.contains(but) || out.contains(buts), "{out}");
        ensure!(out.contains("Next: kube-proxy repairs what it notices"), "{out}");
        // In userspace mode all Services share the chain.
        if mode != Mode::Userspace {
            named(&world, &other, &[right])?;
        }
        // Nothing was repaired by asking.
        named(&world, &line, &[&name])?;
        let json = ask(&world, &format!("{line} -o json"))?.out;
        let json: serde_json::Value = serde_json::from_str(&json)?;
        let held = &json["paths"][0]["onNode"];
        ensure!(held["objects"][0]["state"] == "missing", "{held:#}");
    }
    Ok(())
}
