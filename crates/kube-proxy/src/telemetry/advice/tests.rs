use std::time::{Duration, Instant};

use kube_proxy_core::{Algorithm, ObjectName};

use super::{Advice, BURST, Event, Events, PAUSE};

fn service(number: u32) -> ObjectName {
    ObjectName::new("shop", format!("cart-{number}"))
}

/// The events that a function leads to.
fn events(tell: impl FnOnce(&Advice)) -> Vec<Event> {
    let (events, mut writer) = Events::new("node-a", None);
    tell(&Advice::new(events, "iptables"));
    std::iter::from_fn(|| writer.take()).collect()
}

#[test]
fn a_service_has_one_event_for_an_algorithm_whatever_its_families() {
    let now = Instant::now();
    let sent = events(|advice| {
        for algorithm in [Algorithm::Maglev, Algorithm::Maglev, Algorithm::SourceHash] {
            advice.lacks_algorithm(&service(1), algorithm, now);
        }
        advice.lacks_algorithm(&service(2), Algorithm::Maglev, now);
    });
    let about =
        |number, algorithm| Event::algorithm_lacking(&service(number), algorithm, "iptables");
    assert_eq!(
        sent,
        [about(1, Algorithm::Maglev), about(1, Algorithm::SourceHash), about(2, Algorithm::Maglev)]
    );
}

#[test]
fn many_services_have_a_few_events_at_a_time() {
    let now = Instant::now();
    let sent = |waits: &[Duration]| {
        let tell = |advice: &Advice| {
            let mut number = 0;
            for wait in waits {
                for _ in 0..100 {
                    advice.lacks_algorithm(&service(number), Algorithm::Maglev, now + *wait);
                    number += 1;
                }
            }
        };
        u32::try_from(events(tell).len()).unwrap()
    };
    let soon = Duration::from_secs(1);
    assert_eq!(sent(&[Duration::ZERO]), BURST);
    assert_eq!(sent(&[Duration::ZERO, soon, PAUSE / 2]), BURST);
    assert_eq!(sent(&[Duration::ZERO, PAUSE, PAUSE * 3]), BURST + 3);
    assert_eq!(sent(&[Duration::ZERO, PAUSE * 10_000]), BURST * 2);
}
