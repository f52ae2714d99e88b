//! The rules on a real kernel: both variants, both families.
//!
//! The program starts itself again in namespaces of its own, with or without root, and each test takes a fresh network namespace:
//! nothing of the host is touched.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]
#![expect(clippy::print_stderr, reason = "what is left out is said")]

mod counting;
mod first_sync;
mod look_up;
mod namespace;
mod repairs;
mod restarts;
mod rollback;
#[path = "../../src/tests/samples.rs"]
mod samples;
mod syncs;
mod unlisted;
mod variants;

use std::process::ExitCode;

use kube_proxy_core::IpFamily;
use kube_proxy_iptables::Variant;
use kube_proxy_testkit::harness;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = namespace::enter() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // All tests share one lock file.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for variant in [Variant::Legacy, Variant::Nft] {
        for family in IpFamily::BOTH {
            let all =
                [syncs::TESTS, restarts::TESTS, repairs::TESTS, rollback::TESTS, look_up::TESTS];
            for (name, test) in all.into_iter().flatten() {
                let small = variant == Variant::Nft && !namespace::has_root();
                let large = syncs::LARGE.contains(name)
                    || *name == restarts::LARGE
                    || rollback::LARGE.contains(name);
                if small && large {
                    eprintln!("left out without root: {name} on iptables-nft");
                    continue;
                }
                let name = format!("{}_{family}_{name}", syncs::name(variant));
                trials.push(trial(name, move || test(variant, family)));
            }
        }
    }
    for family in IpFamily::BOTH {
        for (name, test) in unlisted::TESTS.iter().chain(repairs::NFT_TESTS) {
            trials.push(trial(format!("nft_{family}_{name}"), move || test(family)));
        }
        for (name, test) in first_sync::TESTS {
            if namespace::has_root() {
                trials.push(trial(format!("{name}_{family}"), move || test(family)));
            } else {
                eprintln!("left out without root: {name}");
            }
        }
    }
    for (name, test) in variants::TESTS {
        trials.push(trial((*name).to_owned(), *test));
    }
    trials.extend(counting::trials().into_iter().map(|(name, test)| trial(name, test)));
    harness::run(&arguments, trials)
}

fn trial(name: String, test: impl Fn() + Send + Sync + 'static) -> Trial {
    harness::trial(name, move || {
        namespace::in_new_network(&test);
        Ok(())
    })
}
