//! The rules on a real kernel: both variants, both families.
//!
//! The program starts itself again in namespaces of its own, with or without root, and each test takes a fresh network namespace:
//! nothing of the host is touched.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]
#![expect(clippy::print_stderr, reason = "what is left out is said")]

mod counting;
mod namespace;
#[path = "../../src/tests/samples.rs"]
mod samples;
mod syncs;
mod variants;

use std::process::ExitCode;

use kube_proxy_core::IpFamily;
use kube_proxy_iptables::Variant;
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
            for (name, test) in syncs::TESTS {
                let small = variant == Variant::Nft && !namespace::has_root();
                if small && syncs::LARGE.contains(name) {
                    eprintln!("left out without root: {name} on iptables-nft");
                    continue;
                }
                let name = format!("{}_{family}_{name}", syncs::name(variant));
                trials.push(trial(name, move || test(variant, family)));
            }
        }
    }
    for (name, test) in variants::TESTS {
        trials.push(trial((*name).to_owned(), *test));
    }
    trials.extend(counting::trials().into_iter().map(|(name, test)| trial(name, test)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: String, test: impl Fn() + Send + Sync + 'static) -> Trial {
    Trial::test(name, move || {
        namespace::in_new_network(&test);
        Ok(())
    })
}
