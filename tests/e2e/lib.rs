//! End-to-end tests. The packet cases (`packets/cases.rs`) are one table that every mode has to pass; the other modules look at one property each.

mod conntrack;
mod flags;
mod input;
mod life;
mod manifests;
mod objects;
mod packets;
mod servers;
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
        trials.extend(packets::trials(mode));
        for (name, test) in per_mode(mode) {
            trials.push(trial(&format!("{mode}/{name}"), move || test(mode)));
        }
    }
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

fn per_mode(mode: Mode) -> Vec<PerMode> {
    let mut tests = [life::TESTS, conntrack::TESTS].concat();
    if mode == Mode::Userspace {
        tests.retain(|(name, _)| !userspace::NOT_HERE.contains(name));
        tests.extend_from_slice(userspace::TESTS);
    }
    if mode.is_iptables() {
        tests.extend_from_slice(life::IPTABLES_TESTS);
        tests.extend_from_slice(takeover::TESTS);
    }
    tests
}

fn once() -> Vec<Once> {
    [watch::TESTS, manifests::TESTS, input::TESTS, flags::TESTS, servers::TESTS, userspace::ONCE]
        .concat()
}

/// A test whose error is printed with its causes.
fn trial(name: &str, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}
