//! End-to-end tests. The packet cases (`packets/cases.rs`) are one table that every mode has to pass; the other modules look at one property each.

mod algorithms;
mod attack;
mod check;
mod cleanup;
mod clock;
mod conntrack;
mod counted_packets;
mod dead;
mod docker;
mod docs;
mod dump;
mod early;
mod explain;
mod fast_path;
mod flags;
mod flows;
mod input;
mod ipvs;
mod life;
mod localhost;
mod manifests;
mod mode;
mod neighbours;
mod objects;
mod old_kernel;
mod packets;
mod page;
mod panics;
mod plan;
mod repairs;
mod safety;
mod servers;
mod service_metrics;
mod soak;
mod switch;
mod takeover;
mod times;
mod trace;
mod traffic;
mod unlisted;
mod userspace;
mod watch;
mod weights;
mod world;

use kube_proxy_testkit::harness;
use libtest_mimic::Trial;

pub use crate::times::report_slowest;
use crate::world::Mode;

/// All tests, or the part of them that [`harness::PART_VARIABLE`] names.
///
/// # Errors
/// When the variable names no part.
pub fn chosen(rootless: bool) -> anyhow::Result<Vec<Trial>> {
    harness::part(trials(rootless))
}

/// All tests. `rootless` says that they run without root on the host, where everything has to work all the same.
fn trials(rootless: bool) -> Vec<Trial> {
    let form = if rootless { "rootless" } else { "root" };
    let mut trials = Vec::new();
    for mode in Mode::ALL {
        let per_mode = per_mode(mode, rootless).into_iter();
        let life =
            per_mode.map(|(name, test)| trial(&format!("{mode}/{name}"), move || test(mode)));
        // `cargo xtask test` runs those that this kernel lacks in user-mode Linux.
        let here = mode.is_here(rootless);
        let all = packets::trials(mode).into_iter().chain(life);
        trials.extend(all.map(|trial| trial.with_ignored_flag(!here)));
    }
    trials.extend(switch::trials(rootless));
    trials.push(counted_packets::beside_ipvs(rootless));
    trials.extend(clock::trials());
    trials.extend(old_kernel::trials());
    for (name, test) in once() {
        trials.push(trial(name, test));
    }
    for trial in &mut trials {
        let named = std::mem::replace(trial, Trial::test("", || Ok(())));
        *trial = named.with_kind(form);
    }
    trials
}

type PerMode = (&'static str, fn(Mode) -> anyhow::Result<()>);
type Once = (&'static str, fn() -> anyhow::Result<()>);

fn per_mode(mode: Mode, rootless: bool) -> Vec<PerMode> {
    if mode == Mode::Ipvs {
        return ipvs_tests();
    }
    let mut tests = [
        life::TESTS,
        conntrack::TESTS,
        early::TESTS,
        dead::TESTS,
        safety::PER_MODE,
        docker::TESTS,
        neighbours::TESTS,
        attack::TESTS,
        explain::TESTS,
        check::TESTS,
        flows::TESTS,
        trace::TESTS,
        plan::TESTS,
        dump::TESTS,
        weights::TESTS,
    ]
    .concat();
    tests.extend(algorithms::tests(mode));
    if mode.counts_traffic() {
        tests.extend_from_slice(service_metrics::TESTS);
    }
    // Rootless, iptables-nft has too small a buffer for that many rules, see docs/iptables.md.
    let small = rootless && matches!(mode, Mode::IptablesNft | Mode::Userspace);
    if small {
        tests.retain(|(name, _)| !attack::LARGE.contains(name));
    }
    if mode == Mode::Userspace {
        tests.retain(|(name, _)| !userspace::NOT_HERE.contains(name));
        tests.extend_from_slice(userspace::TESTS);
        if !small {
            tests.extend_from_slice(soak::TESTS);
        }
        return tests;
    }
    tests.extend_from_slice(explain::TRANSLATED);
    if !small {
        tests.extend_from_slice(soak::TESTS);
    }
    if mode.is_iptables() {
        tests.extend_from_slice(life::IPTABLES_TESTS);
        tests.extend_from_slice(takeover::TESTS);
        tests.extend_from_slice(counted_packets::TESTS);
    }
    if mode == Mode::Nftables {
        tests.extend_from_slice(life::NFTABLES_TESTS);
        tests.extend_from_slice(fast_path::TESTS);
    }
    tests
}

/// Fewer than for other modes, as user-mode Linux is slow.
fn ipvs_tests() -> Vec<PerMode> {
    const SHARED: [&str; 12] = [
        "life/restart-after-sigkill",
        "life/endpoint-removed",
        "life/service-ports-changed",
        "life/affinity-sticks",
        "life/node-address-changes",
        "conntrack/pod-replaced",
        "conntrack/scaled-to-zero-and-back",
        "conntrack/removed-while-down",
        "conntrack/terminating-keeps-flows",
        "early/connection-before-the-service",
        "dead/node-lost",
        "dead/terminating-pod-keeps-its-connections",
    ];
    let shared = [life::TESTS, conntrack::TESTS, early::TESTS, dead::TESTS].concat().into_iter();
    let own = [
        life::IPVS_TESTS,
        service_metrics::TESTS,
        ipvs::TESTS,
        attack::TESTS,
        explain::TESTS,
        soak::TESTS,
    ]
    .concat();
    let asked = [
        check::TESTS,
        flows::TESTS,
        trace::TESTS,
        plan::TESTS,
        plan::IPVS_TESTS,
        dump::TESTS,
        weights::TESTS,
    ]
    .concat();
    let algorithms = algorithms::tests(Mode::Ipvs);
    shared
        .filter(|(name, _)| SHARED.contains(name))
        .chain(own)
        .chain(asked)
        .chain(algorithms)
        .collect()
}

fn once() -> Vec<Once> {
    [
        watch::TESTS,
        manifests::TESTS,
        input::TESTS,
        flags::TESTS,
        servers::TESTS,
        switch::TESTS,
        cleanup::TESTS,
        repairs::TESTS,
        unlisted::TESTS,
        safety::TESTS,
        docs::TESTS,
        explain::ONCE,
        page::ONCE,
        plan::ONCE,
        panics::TESTS,
        mode::TESTS,
        localhost::ONCE,
        userspace::ONCE,
    ]
    .concat()
}

/// A test whose time is noted.
fn trial(name: &str, test: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static) -> Trial {
    let own_name = name.to_owned();
    harness::trial(name, move || {
        let _took = times::Watch::start(own_name.clone());
        test()
    })
}
