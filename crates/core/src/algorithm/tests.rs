use super::*;
use crate::testing::{applied, applied_slice, name, port_name, ready, service, slice, tracker};

#[test]
fn names_are_read_back() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.name().parse(), Ok(algorithm));
    }
    assert!("Random".parse::<Algorithm>().is_err());
}

#[test]
fn clients_spread_over_all_slots() {
    let mut counts = [0_u32; 7];
    for client in 0..7000_u32 {
        let slot = source_slot(IpAddr::from((0x0a00_0000 + client).to_be_bytes()), 7);
        counts[slot as usize] += 1;
    }
    // Six standard deviations of a fair choice.
    assert!(counts.iter().all(|count| count.abs_diff(1000) < 176), "{counts:?}");
    assert_eq!(source_slot([10, 0, 0, 1].into(), 1), 0);
}

#[test]
fn connections_of_one_client_spread_over_all_slots() {
    for client in ["192.0.2.1", "2001:db8::1"] {
        let mut counts = [0_u32; 7];
        for port in 0..7000 {
            let from = SocketAddr::new(client.parse().unwrap(), 30_000 + port);
            counts[connection_slot(from, 7) as usize] += 1;
        }
        // Six standard deviations of a fair choice.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 176), "{client}: {counts:?}");
    }
}

#[test]
fn a_service_gets_what_it_asks_for_if_the_mode_has_it() {
    let mut tracker = tracker();
    let asks = |algorithm| {
        let mut web = service("ns/web", "10.96.0.1");
        web.policy.algorithm = algorithm;
        applied(web)
    };
    let gets = |tracker: &crate::Tracker| {
        tracker.snapshot().services[&port_name("ns/web", "")].port.policy.algorithm
    };
    tracker.apply(applied_slice(slice("ns/web-1", "web", vec![ready("10.0.0.1")])));
    tracker.apply(asks(Some(Algorithm::SourceHash)));
    tracker.fold();
    assert_eq!(gets(&tracker), None, "no mode has it yet");
    let lacks = vec![(name("ns/web"), Algorithm::SourceHash)];
    assert_eq!((tracker.take_new_lacking(), tracker.lacking()), (lacks, 1));
    tracker.fold();
    assert_eq!(tracker.take_new_lacking(), [], "once for as long as it lasts");
    tracker.offer_algorithms(vec![Algorithm::Random, Algorithm::SourceHash]);
    assert_eq!(tracker.fold().services.len(), 1);
    assert_eq!((gets(&tracker), tracker.lacking()), (Some(Algorithm::SourceHash), 0));
    assert!(tracker.apply(asks(None)));
    tracker.fold();
    assert_eq!(gets(&tracker), None);
    assert!(tracker.prefer_algorithm(Algorithm::SourceHash));
    tracker.fold();
    assert_eq!(gets(&tracker), Some(Algorithm::SourceHash), "as the node says");
    tracker.apply(asks(Some(Algorithm::Random)));
    tracker.fold();
    assert_eq!(gets(&tracker), None, "the Service goes before the node");
    assert!(!tracker.prefer_algorithm(Algorithm::LeastConnections), "the mode does not have it");
    tracker.apply(asks(Some(Algorithm::LeastConnections)));
    tracker.fold();
    assert_eq!((gets(&tracker), tracker.lacking()), (None, 1));
    tracker.apply(crate::Event::ServiceDeleted(name("ns/web")));
    tracker.fold();
    assert_eq!(tracker.lacking(), 0);
}
