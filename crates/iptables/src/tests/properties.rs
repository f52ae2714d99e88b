//! However services came about, the node looks the same.

use kube_proxy_core::{IpFamily, Protocol};
use proptest::prelude::*;

use super::build::{backend, config, fresh, full, partial};
use super::model::Model;
use super::samples::{Sample, changes, service, snapshot};
use futures::executor::block_on;
use kube_proxy_core::{ProxyBackend, Scope};

/// One of few names and addresses, so that services clash, come back and change places.
fn sample() -> impl Strategy<Value = Sample> {
    let weight = prop_oneof![3 => Just(1_u16), 1 => Just(3), 1 => Just(0)];
    let endpoint = (0_u8..6, any::<bool>(), any::<bool>(), weight);
    let endpoints = prop::collection::vec(endpoint, 0..4);
    let flags = prop::collection::vec(any::<bool>(), 8);
    (0_u16..900, 0_u16..2000, endpoints, flags).prop_map(|(name, ip, endpoints, flags)| {
        let mut sample = service(&format!("s{name}"), &format!("10.96.{}.{}", ip >> 8, ip & 255));
        for (number, local, terminating, weight) in endpoints {
            let address = format!("10.1.{}.{number}:80", u8::from(local));
            if sample.endpoints.iter().any(|e| e.to_string() == address) {
                continue;
            }
            sample = if local { sample.local(&address) } else { sample.remote(&address) };
            if terminating {
                sample = sample.terminating();
            }
            sample = sample.weight(weight);
        }
        let options: [fn(Sample, u16) -> Sample; 8] = [
            |s, n| s.node_port(30000 + n % 50),
            |s, n| s.external_ip(&format!("192.0.2.{}", n % 20)),
            |s, n| s.vip(&format!("198.51.100.{}", n % 20)),
            |s, _| s.range("203.0.113.0/24"),
            |s, _| s.internal_local(),
            |s, _| s.external_local(),
            |s, _| s.affinity(60),
            |s, n| if n % 2 == 0 { s.protocol(Protocol::Udp) } else { s.health_check(32000 + n) },
        ];
        for (wanted, option) in flags.into_iter().zip(options) {
            if wanted {
                sample = option(sample, name);
            }
        }
        sample
    })
}

fn with(current: &mut Vec<Sample>, sample: Sample, remove: bool) {
    current.retain(|known| known.service.name != sample.service.name);
    if !remove {
        current.push(sample);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn partial_syncs_end_where_a_full_one_does(
        start in prop::collection::vec(sample(), 0..600),
        steps in prop::collection::vec(prop::collection::vec((sample(), any::<bool>()), 1..40), 1..5),
    ) {
        let config = config(IpFamily::V4);
        let model = Model::default();
        let mut backend = backend(config.clone(), &model);
        let mut current = Vec::new();
        for sample in start {
            with(&mut current, sample, false);
        }
        let mut before = snapshot(IpFamily::V4, &current);
        full(&mut backend, &before);
        for step in steps {
            for (sample, remove) in step {
                with(&mut current, sample, remove);
            }
            let after = snapshot(IpFamily::V4, &current);
            let report = partial(&mut backend, &before, &after);
            let dump = model.dump();
            prop_assert_eq!(&dump, &fresh(config.clone(), &after));
            let ours = dump.lines().filter(|l| l.starts_with("-A KUBE-")).count();
            let total: usize = report.counts.iter().map(|count| count.total).sum();
            prop_assert_eq!(ours, total);
            before = after;
        }
        // A restart finds everything as it wants it.
        let dump = model.dump();
        let inputs = model.inputs().len();
        let report = full(&mut super::build::backend(config, &model), &before);
        prop_assert_eq!(dump, model.dump());
        prop_assert!(report.counts.iter().all(|count| count.written == 0));
        prop_assert_eq!(model.inputs().len(), inputs, "{:?}", model.inputs().last());
    }

    /// Any text as a name, any number as a timeout: nothing panics, and what is refused is left out.
    #[test]
    fn odd_input_is_survived(name in ".{0,300}", seconds in any::<u64>(), count in 0_usize..3) {
        let model = Model::default();
        let mut backend = backend(config(IpFamily::V4), &model);
        let mut odd = service(&name, "10.96.0.1").affinity(seconds).node_port(1).vip("1.2.3.4");
        for number in 0..count {
            odd = odd.remote(&format!("0.0.0.{number}:1"));
        }
        let good = service("good", "10.96.0.2").remote("10.1.0.1:80");
        let empty = snapshot(IpFamily::V4, &[]);
        let after = snapshot(IpFamily::V4, &[odd, good]);
        full(&mut backend, &empty);
        let changes = changes(&empty, &after);
        if block_on(backend.sync(&after, Scope::Partial(&changes))).is_err() {
            full(&mut backend, &after);
        }
        prop_assert!(model.dump().contains("--to-destination 10.1.0.1:80"));
    }
}
