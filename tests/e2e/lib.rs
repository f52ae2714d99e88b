//! End-to-end tests. The packet cases (`packets/cases.rs`) are one table that every mode has to pass; the other modules look at one property each.

mod cleanup;
mod conntrack;
mod counted_packets;
mod docs;
mod flags;
mod input;
mod ipvs;
mod life;
mod manifests;
mod objects;
mod packets;
mod safety;
mod servers;
mod service_metrics;
mod soak;
mod switch;
mod takeover;
mod traffic;
mod userspace;
mod watch;
mod world;

use libtest_mimic::{Failed, Trial};

use crate::world::Mode;

/// All tests. `rootless` says that they run without root on the host, where everything has to work all the same.
pub fn trials(rootless: bool) -> Vec<Trial> {
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
    let mut tests = [life::TESTS, conntrack::TESTS, safety::PER_MODE].concat();
    if mode.counts_traffic() {
        tests.extend_from_slice(service_metrics::TESTS);
    }
    if mode == Mode::Userspace {
        tests.retain(|(name, _)| !userspace::NOT_HERE.contains(name));
        tests.extend_from_slice(userspace::TESTS);
        return tests;
    }
    // Rootless, its program has too small a buffer for that many rules, see docs/iptables.md.
    if mode != Mode::IptablesNft || !rootless {
        tests.extend_from_slice(soak::TESTS);
    }
    tests.extend_from_slice(life::PRIMARY_ADDRESS_TESTS);
    if mode.is_iptables() {
        tests.extend_from_slice(life::IPTABLES_TESTS);
        tests.extend_from_slice(takeover::TESTS);
        tests.extend_from_slice(counted_packets::TESTS);
    }
    if mode == Mode::Nftables {
        tests.extend_from_slice(life::NFTABLES_TESTS);
    }
    tests
}

/// Fewer than for other modes, as user-mode Linux is slow.
fn ipvs_tests() -> Vec<PerMode> {
    const SHARED: [&str; 6] = [
        "life/restart-after-sigkill",
        "life/endpoint-removed",
        "life/service-ports-changed",
        "life/affinity-sticks",
        "conntrack/pod-replaced",
        "conntrack/scaled-to-zero-and-back",
    ];
    let shared = [life::TESTS, conntrack::TESTS].concat().into_iter();
    let own = [life::IPVS_TESTS, service_metrics::TESTS, ipvs::TESTS].concat();
    shared.filter(|(name, _)| SHARED.contains(name)).chain(own).collect()
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
        safety::TESTS,
        docs::TESTS,
        userspace::ONCE,
    ]
    .concat()
}

/// A test whose error is printed with its causes.
fn trial(name: &str, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}
