//! Tables so large that they are read in another way.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::ensure;
use futures::executor::block_on;
use kube_proxy_core::{
    EndpointSlice, Event, IpFamily, ObjectName, Port, Protocol, ProxyBackend as _, Scope, Service,
    SliceEndpoint, SlicePort, Tracker, TrackerOptions,
};
use kube_proxy_nftables::{LastSync, NftablesBackend};
use kube_proxy_testkit::netns::Netns;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::config;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("large::read_back_and_repaired", read_back_and_repaired)]
}

const SERVICES: u8 = 250;
const ENDPOINTS: u8 = 100;

fn tracker() -> Tracker {
    let mut tracker = Tracker::new(TrackerOptions {
        node_name: "node-0".into(),
        ..kube_proxy_core::testing::options(IpFamily::V4)
    });
    for number in 0..SERVICES {
        let name = ObjectName::new("large", format!("svc-{number}"));
        let mut service = Service::new(name.clone());
        service.cluster_ips.v4 = Some([10, 96, 0, number].into());
        let port = NonZeroU16::new(80).expect("not zero");
        let protocol = Protocol::Tcp;
        service.ports = vec![Port { name: "".into(), protocol, port, node_port: None }];
        tracker.apply(Event::ServiceApplied(Arc::new(service)));
        let addresses = (0..ENDPOINTS).map(|last| Ipv4Addr::new(10, 128, number, last));
        tracker.apply(Event::EndpointSliceApplied(EndpointSlice {
            name: name.clone(),
            service: name.name,
            family: IpFamily::V4,
            ports: vec![SlicePort { name: "".into(), protocol, port }],
            // On another node: no hairpin traffic is possible.
            endpoints: addresses
                .map(|ip| SliceEndpoint {
                    node: Some("elsewhere".into()),
                    ..SliceEndpoint::ready(ip.into())
                })
                .collect(),
            trigger_time: None,
        }));
    }
    tracker.fold();
    tracker
}

/// A fresh backend syncs; what it sent.
fn restart(netns: &Netns, tracker: &Tracker) -> anyhow::Result<LastSync> {
    let mut backend = netns.run(|| NftablesBackend::new(config(IpFamily::V4)))?;
    block_on(backend.sync(tracker.snapshot(), Scope::Full))?;
    ensure!(block_on(backend.intact())?);
    Ok(backend.last_sync())
}

fn read_back_and_repaired() -> anyhow::Result<()> {
    let netns = Netns::create("large")?;
    let tracker = tracker();
    let slots = usize::from(SERVICES) * usize::from(ENDPOINTS);
    let first = restart(&netns, &tracker)?;
    // A slot for each endpoint; the frontend and the cluster IP of each Service; where node ports are served.
    ensure!(first.elements == slots + 2 * usize::from(SERVICES) + 2, "{first:?}");
    ensure!(restart(&netns, &tracker)? == LastSync::default());
    let element = "10.96.0.7 . tcp . 80 . 42";
    let damage = |commands: &[String]| {
        for command in commands {
            netns.output("nft", &command.split_whitespace().collect::<Vec<_>>())?;
        }
        anyhow::Ok(())
    };
    let delete = format!("delete element ip kube-proxy cluster-endpoints {{ {element} }}");
    let add = |element: &str| {
        format!("add element ip kube-proxy cluster-endpoints {{ {element} : 10.0.0.1 . 1 }}")
    };
    // One is missing; one is another; one is missing and another one too many; and one too many alone.
    let extra = "10.96.0.7 . tcp . 80 . 4242";
    let damages = [
        (vec![delete.clone()], 1),
        (vec![delete.clone(), add(element)], 2),
        (vec![delete, add(extra)], 2),
        (vec![add(extra)], 1),
    ];
    for (commands, elements) in damages {
        damage(&commands)?;
        let repaired = restart(&netns, &tracker)?;
        ensure!(repaired.elements == elements, "{commands:?}: {repaired:?}");
        ensure!(restart(&netns, &tracker)? == LastSync::default(), "{commands:?}");
    }
    Ok(())
}
