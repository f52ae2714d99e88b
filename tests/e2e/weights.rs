//! Weights of endpoints: connections spread by them, and 0 keeps what is there and nothing new.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::METRICS;
use kube_proxy_testkit::probe::{Connection, UdpFlow};
use serde_json::{Value, json};

use crate::PerMode;
use crate::conntrack::{are_at, flows};
use crate::explain::named;
use crate::objects::Svc;
use crate::traffic::{SILENCE, becomes};
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("weights/shares", shares),
    ("weights/drain-keeps-connections", drain),
    ("weights/drain-keeps-flows", drain_flows),
    ("weights/drain-ends-affinity", drain_affinity),
    ("weights/slow-start", slow_start),
];

const CLIENT: From = From::Pod("client");
const OUTSIDE: From = From::Outside;
/// One share in eight of these is never taken for one in three, nor the other way round.
const PROBES: usize = 400;

/// A Service with slices of both families that have these pods, and for some of them weights by address.
fn serve(world: &World, service: &Svc, pods: &[(&str, Option<u16>)]) -> anyhow::Result<()> {
    world.apply([service.object()])?;
    world.apply(IpFamily::BOTH.map(|family| named_weights(world, service, family, "", pods)))
}

fn named_weights(
    world: &World,
    service: &Svc,
    family: IpFamily,
    suffix: &str,
    pods: &[(&str, Option<u16>)],
) -> Value {
    let names: Vec<&str> = pods.iter().map(|(pod, _)| *pod).collect();
    let mut slice = service.slice(family, suffix, TARGET, &world.endpoints(&names));
    let weights = pods.iter().filter_map(|(pod, weight)| Some((pod, (*weight)?)));
    let list: Vec<_> =
        weights.map(|(pod, weight)| format!("{}={weight}", world.pod(pod).ip(family))).collect();
    if !list.is_empty() {
        slice["metadata"]["annotations"] =
            json!({ "kube-proxy.io/endpoint-weights": list.join(", ") });
    }
    slice
}

/// Both frontends of Service 1, with who asks.
fn frontends(world: &World) -> Vec<(From, SocketAddr)> {
    let of = |family| [(CLIENT, cluster_address(1, family)), (OUTSIDE, world.node_port(1, family))];
    IpFamily::BOTH.into_iter().flat_map(of).collect()
}

/// Weights of a slice, as Cilium has them, and of named endpoints; then others.
fn shares(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1).node_port();
    let slices = |annotation: &str, remote: u16, local: [Option<u16>; 2]| -> Vec<Value> {
        let of_family = |family| {
            let pods = [("local-1", local[0]), ("local-2", local[1])];
            let named = named_weights(&world, &service, family, "-named", &pods);
            let mut whole =
                service.slice(family, "-whole", TARGET, &world.endpoints(&["remote-1"]));
            whole["metadata"]["annotations"] = json!({ annotation: remote.to_string() });
            [named, whole]
        };
        IpFamily::BOTH.into_iter().flat_map(of_family).collect()
    };
    let check = |shares: [u32; 3]| -> anyhow::Result<()> {
        let pods = ["local-1", "local-2", "remote-1"];
        let shares: Vec<_> = pods.into_iter().zip(shares).collect();
        for (from, to) in frontends(&world) {
            let spread = world.probe(from).spread(to, PROBES);
            spread.check_weighted(&shares).with_context(|| to.to_string())?;
        }
        Ok(())
    };
    world.apply([service.object()])?;
    world.apply(slices("service.cilium.io/weight", 4, [None, Some(3)]))?;
    world.settle()?;
    check([1, 3, 4])?;
    named(&world, "explain default/web", &["weight 3", "weight 4"])?;
    world.apply(slices("kube-proxy.io/weight", 30, [Some(40), Some(10)]))?;
    world.settle()?;
    check([4, 1, 3])?;
    world.apply(slices("kube-proxy.io/weight", 1, [None, None]))?;
    world.settle()?;
    check([1, 1, 1])
}

/// Connections to each frontend that one pod accepted.
fn connections(world: &World, pod: &str) -> anyhow::Result<Vec<(SocketAddr, Connection)>> {
    let mut kept = Vec::new();
    for (from, to) in frontends(world) {
        let of_pod = (0..100).find_map(|_| match world.probe(from).connect(to) {
            Ok(connection) if connection.greeting().pod == pod => Some(Ok(connection)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        let connection = of_pod.with_context(|| format!("{to}: {pod} never answered"))??;
        kept.push((to, connection));
    }
    Ok(kept)
}

fn live(connections: &mut [(SocketAddr, Connection)], pod: &str) -> anyhow::Result<()> {
    for (to, connection) in connections {
        let answer = connection.ping().answer().with_context(|| format!("connection to {to}"))?;
        ensure!(answer.pod == pod, "connection to {to}: {} answered, not {pod}", answer.pod);
    }
    Ok(())
}

fn drain(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    let service = Svc::new("web", 1).node_port();
    serve(&world, &service, &[("local-1", None), ("remote-1", None)])?;
    world.settle()?;
    let mut kept = connections(&world, "local-1")?;
    serve(&world, &service, &[("local-1", Some(0)), ("remote-1", None)])?;
    world.settle()?;
    live(&mut kept, "local-1")?;
    for (from, to) in frontends(&world) {
        world.probe(from).spread(to, 40).check_even(&["remote-1"])?;
    }
    named(&world, "explain default/web", &["draining, its weight is 0", "goes to endpoint"])?;
    if mode != Mode::Userspace {
        world.stop()?;
        world.start()?;
        live(&mut kept, "local-1")?;
    }
    // All of them: new connections are refused as without endpoints.
    serve(&world, &service, &[("local-1", Some(0)), ("remote-1", Some(0))])?;
    world.settle()?;
    live(&mut kept, "local-1")?;
    for (from, to) in frontends(&world) {
        let outcome = world.probe(from).tcp(to);
        ensure!(outcome.is_refused(), "{to}: {outcome}");
    }
    named(&world, "explain default/web", &["refused at once", "EndpointSlices"])?;
    serve(&world, &service, &[("local-1", None), ("remote-1", Some(0))])?;
    world.settle()?;
    live(&mut kept, "local-1")?;
    for (from, to) in frontends(&world) {
        world.probe(from).spread(to, 40).check_even(&["local-1"])?;
    }
    Ok(())
}

/// Each flow of a UDP client that continues stays where it was, whatever becomes of new ones.
fn drain_flows(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("dns", 1).udp().load_balancer().external_ips();
    serve(&world, &service, &[("local-1", None)])?;
    world.settle()?;
    let mut kept = flows(&world, 1)?;
    are_at(&mut kept, "local-1")?;
    serve(&world, &service, &[("local-1", Some(0))])?;
    world.settle()?;
    are_at(&mut kept, "local-1")?;
    silent(&mut flows(&world, 1)?)?;
    serve(&world, &service, &[("local-1", Some(0)), ("local-2", None)])?;
    world.settle()?;
    are_at(&mut kept, "local-1")?;
    are_at(&mut flows(&world, 1)?, "local-2")
}

fn silent(flows: &mut [(String, UdpFlow)]) -> anyhow::Result<()> {
    for (what, flow) in flows {
        flow.set_timeout(SILENCE)?;
        let outcome = flow.ping();
        ensure!(!outcome.is_answer(), "{what}: {outcome}");
    }
    Ok(())
}

fn drain_affinity(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1).node_port().affinity(300);
    serve(&world, &service, &[("local-1", None)])?;
    world.settle()?;
    let mut kept = connections(&world, "local-1")?;
    serve(&world, &service, &[("local-1", None), ("local-2", None)])?;
    world.settle()?;
    for (from, to) in frontends(&world) {
        world.probe(from).spread(to, 10).check_even(&["local-1"])?;
    }
    serve(&world, &service, &[("local-1", Some(0)), ("local-2", None)])?;
    world.settle()?;
    for (from, to) in frontends(&world) {
        becomes(world.probe(from), to, "local-2");
    }
    live(&mut kept, "local-1")
}

/// A new pod has a small share at first, and all of it after a while; a restart is no new beginning.
fn slow_start(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    let asking = |time: &str| {
        let annotations = json!({ "kube-proxy.io/slow-start": time });
        Svc::new("web", 1).node_port().with("/metadata/annotations", annotations)
    };
    let slow = asking("1h");
    serve(&world, &slow, &[("local-1", None)])?;
    world.settle()?;
    let pods = [("local-1", None), ("remote-1", None)];
    serve(&world, &slow, &pods)?;
    world.settle()?;
    // The second step of an hour comes after minutes.
    let begins = |world: &World| -> anyhow::Result<()> {
        for (from, to) in frontends(world) {
            let spread = world.probe(from).spread(to, PROBES);
            spread
                .check_weighted(&[("local-1", 10), ("remote-1", 1)])
                .with_context(|| to.to_string())?;
        }
        Ok(())
    };
    begins(&world)?;
    let text = "slow start: step 1 of 10, weight 0.1";
    named(&world, "explain default/web", &["whole share after 3600s", text])?;
    named(
        &world,
        "endpoints default/web -o wide",
        &["ready, weight 0.1", "slow start: step 1 of 10"],
    )?;
    // Another time ends it once that is over.
    serve(&world, &asking("1s"), &pods)?;
    eventually(GUARD, || {
        let proxy = world.probe(From::Node).http_get(METRICS, "/debug/services?name=web")?;
        ensure!(!proxy.body.contains("\"step\""), "{}", proxy.body);
        Ok(())
    });
    let even = |world: &World| -> anyhow::Result<()> {
        for (from, to) in frontends(world) {
            world.probe(from).spread(to, 100).check_even(&["local-1", "remote-1"])?;
        }
        Ok(())
    };
    even(&world)?;
    serve(&world, &slow, &pods)?;
    world.settle()?;
    even(&world)?;
    world.stop()?;
    world.start()?;
    even(&world)
}
