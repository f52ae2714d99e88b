//! From the table of the Go kube-proxy to ours, under traffic.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::prober::Prober;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{Svc, TARGET, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("takeover::no_connection_fails_and_sessions_go_on", takeover),
        trial("takeover::sessions_of_an_earlier_layout_go_on", earlier_layout),
        trial("takeover::restart_under_traffic", restart_under_traffic),
    ]
}

const ONE: Svc = Svc(1);
const STICKY: Svc = Svc(2);

/// The parts of such a table that matter here, for two services with the pods as endpoints.
fn old_table(world: &World) -> String {
    let family = IpFamily::V4;
    let (one, sticky) = (ONE.cluster_ip(family).ip(), STICKY.cluster_ip(family).ip());
    let endpoints = ["a", "b"].map(|pod| world.pod(pod).address(family, TARGET));
    let name = |endpoint: &SocketAddr| {
        format!("ABCDEFGH-test/svc-2/tcp/tcp__{}/{}", endpoint.ip(), endpoint.port())
    };
    let sticky_parts = endpoints.iter().map(|endpoint| {
        let name = name(endpoint);
        format!(
            "set affinity-{name} {{ type ipv4_addr ; flags dynamic,timeout ; timeout 1h ; }}
            chain endpoint-{name} {{
                update @affinity-{name} {{ ip saddr }}
                meta l4proto tcp dnat to {endpoint}
            }}\n"
        )
    });
    let sticky_parts = sticky_parts.collect::<Vec<_>>().concat();
    let rules = endpoints.iter().map(|endpoint| {
        let name = name(endpoint);
        format!("ip saddr @affinity-{name} goto endpoint-{name}\n")
    });
    let rules = rules.collect::<Vec<_>>().concat();
    let goto = endpoints.each_ref().map(|endpoint| format!("goto endpoint-{}", name(endpoint)));
    let [a, b] = endpoints.map(|endpoint| format!("{} . {}", endpoint.ip(), endpoint.port()));
    format!(
        "table ip kube-proxy {{
            comment \"rules for kube-proxy\"
            {sticky_parts}
            chain service-XYZ-test/svc-2/tcp/tcp {{
                {rules}
                numgen random mod 2 vmap {{ 0 : {}, 1 : {} }}
            }}
            chain service-XYZ-test/svc-1/tcp/tcp {{
                meta l4proto tcp dnat ip to numgen random mod 2 map {{ 0 : {a}, 1 : {b} }}
            }}
            map service-ips {{
                type ipv4_addr . inet_proto . inet_service : verdict
                elements = {{ {one} . tcp . 80 : goto service-XYZ-test/svc-1/tcp/tcp,
                              {sticky} . tcp . 80 : goto service-XYZ-test/svc-2/tcp/tcp }}
            }}
            chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips ; }}
            chain nat-prerouting {{ type nat hook prerouting priority dstnat ; jump services ; }}
            chain nat-output {{ type nat hook output priority -100 ; jump services ; }}
            chain nat-postrouting {{ type nat hook postrouting priority srcnat ; ct status dnat masquerade ; }}
        }}",
        goto[0], goto[1],
    )
}

fn services(world: &mut World) {
    world.set(ONE.cluster_ip_only());
    let mut sticky = STICKY.cluster_ip_only();
    sticky.policy.session_affinity = Some(Duration::from_hours(1));
    world.set(sticky);
    for svc in [ONE, STICKY] {
        world.endpoints(svc, &["a", "b"]);
    }
}

fn takeover() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
    let file = std::env::temp_dir().join("old-table.nft");
    std::fs::write(&file, old_table(&world)).context("write the old table")?;
    world.nft(&format!("-f {}", file.display()))?;
    let (one, sticky) = (ONE.cluster_ip(IpFamily::V4), STICKY.cluster_ip(IpFamily::V4));
    // Sessions with the old table, of several clients; and a connection that stays open.
    let mut sessions = Vec::new();
    for host in 100..110 {
        let address = [172, 18, 0, host].into();
        world.cluster.client().add_address(address)?;
        let answer = world.cluster.client().probe().source(address).tcp(sticky).answer()?;
        sessions.push((address, answer.pod));
    }
    let probe = world.pod("other").probe();
    let mut connection = probe.connect(one).map_err(|outcome| anyhow::anyhow!("{outcome}"))?;
    let prober =
        Prober::start(&probe.timeout(Duration::from_secs(5)), one, Duration::from_millis(2))?;
    thread::sleep(Duration::from_millis(200));

    services(&mut world);
    let last = world.sync()?;
    ensure!(last.v4.transactions == 1, "{last:?}");
    thread::sleep(Duration::from_millis(200));

    let report = prober.stop();
    report.check_no_failure()?;
    ensure!(report.pods().len() == 2, "{:?}", report.pods());
    ensure!(connection.ping().is_answer(), "the open connection continues");
    let listed = world.ruleset()?;
    ensure!(!listed.contains("ABCDEFGH") && !listed.contains("service-XYZ"), "{listed}");
    for (address, pod) in sessions {
        for _ in 0..5 {
            let answer = world.cluster.client().probe().source(address).tcp(sticky).answer()?;
            ensure!(answer.pod == pod, "{address} was with {pod}, now with {}", answer.pod);
        }
    }
    let affinity = world.nft("list map ip kube-proxy client-affinity")?;
    ensure!(affinity.contains("timeout 1h expires 59m"), "{affinity}");
    ensure_nothing_sent(world.full_sync()?)
}

/// Layout 2 had the cluster IP as an address in the keys of sessions.
fn earlier_layout() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b")])?;
    let b = world.pod("b");
    for family in IpFamily::BOTH {
        let (table, kind) = match family {
            IpFamily::V4 => ("ip", "ipv4_addr"),
            IpFamily::V6 => ("ip6", "ipv6_addr"),
        };
        let (client, to) = (world.cluster.client().ip(family), STICKY.cluster_ip(family).ip());
        let text = format!(
            "table {table} kube-proxy {{
                comment \"rules for kube-proxy, layout 2: see docs/nftables.md\"
                map affinity {{
                    type {kind} . {kind} . inet_proto . inet_service : {kind} . inet_service
                    size 1048576
                    flags dynamic,timeout
                    elements = {{ {client} . {to} . tcp . 80 timeout 1h expires 59m30s : {} . {TARGET} }}
                }}
            }}",
            b.ip(family),
        );
        let file = std::env::temp_dir().join("layout-2.nft");
        std::fs::write(&file, text)?;
        world.nft(&format!("-f {}", file.display()))?;
    }
    services(&mut world);
    world.sync()?;
    for family in IpFamily::BOTH {
        let met = world.cluster.client().probe().spread(STICKY.cluster_ip(family), 12);
        let pods: Vec<_> = met.pods.keys().map(String::as_str).collect();
        ensure!(pods == ["b"] && met.failures.is_empty(), "{met}");
    }
    Ok(())
}

fn restart_under_traffic() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
    services(&mut world);
    world.sync()?;
    let address = ONE.cluster_ip(IpFamily::V6);
    let probe = world.pod("other").probe();
    let mut connection = probe.connect(address).map_err(|outcome| anyhow::anyhow!("{outcome}"))?;
    let prober =
        Prober::start(&probe.timeout(Duration::from_secs(5)), address, Duration::from_millis(2))?;
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(30));
        world.restart()?;
        ensure_nothing_sent(world.sync()?)?;
        // And changes that leave endpoints to go to.
        world.endpoints(ONE, &["a"]);
        world.sync()?;
        world.endpoints(ONE, &["a", "b"]);
        world.sync()?;
        world.full_sync()?;
    }
    prober.stop().check_no_failure()?;
    ensure!(connection.ping().is_answer(), "the open connection continues");
    Ok(())
}
