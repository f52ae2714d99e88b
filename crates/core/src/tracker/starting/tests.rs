use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::slow_start::STEPS;
use crate::testing::{applied, applied_slice, port_name, ready, service, slice, tracker};
use crate::{Algorithm, Event, Node, ServiceEntry, ServicePolicy, Steering, Step, Tracker, weight};

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    tracker: Tracker,
    now: Instant,
}

impl Bench {
    /// `ns/web` with slow start over nine seconds, a step in each, and these endpoints.
    fn new(endpoints: &[&str]) -> Self {
        Self::with(endpoints, |_| {})
    }

    fn with(endpoints: &[&str], adjust: impl Fn(&mut ServicePolicy)) -> Self {
        let mut web = service("ns/web", "10.96.0.1");
        web.policy.slow_start = Some("9s".parse().unwrap());
        adjust(&mut web.policy);
        let mut bench = Self { tracker: tracker(), now: Instant::now() };
        bench.tracker.apply(applied(web));
        bench.tracker.apply(applied(service("ns/other", "10.96.0.2")));
        bench.tracker.apply(applied_slice(slice("ns/other-1", "other", vec![ready("10.0.1.1")])));
        bench.serve(endpoints);
        bench
    }

    fn serve(&mut self, endpoints: &[&str]) {
        let endpoints = endpoints.iter().map(|address| ready(address)).collect();
        self.tracker.apply(applied_slice(slice("ns/web-1", "web", endpoints)));
        self.fold();
    }

    /// The names of the service ports that changed.
    fn fold(&mut self) -> Vec<String> {
        self.tracker.tell_time(self.now);
        let changes = self.tracker.fold();
        changes.services.iter().map(ToString::to_string).collect()
    }

    /// So many seconds later.
    fn after(&mut self, seconds: u32) -> Vec<String> {
        self.now += SECOND * seconds + Duration::from_micros(1);
        self.fold()
    }

    fn entry(&self) -> &ServiceEntry {
        &self.tracker.snapshot().services[&port_name("ns/web", "")]
    }

    /// The step of each endpoint; the last is all.
    fn steps(&self) -> Vec<u8> {
        let steps = |list: &[crate::Endpoint]| -> Vec<u8> {
            list.iter().map(|endpoint| endpoint.step().map_or(STEPS, Step::number)).collect()
        };
        let all = steps(&self.entry().endpoints);
        assert_eq!(all, steps(&self.entry().choice.cluster));
        all
    }
}

#[test]
fn a_new_endpoint_has_its_share_step_by_step() {
    let mut bench = Bench::new(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!((bench.steps(), bench.tracker.step_due()), (vec![10, 10], None), "the first list");
    bench.serve(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let begin = bench.now;
    let mut seen = vec![bench.steps()[2]];
    let mut changes = 0;
    while let Some(due) = bench.tracker.step_due() {
        bench.now = due;
        assert_eq!(bench.fold(), ["ns/web"], "and no other");
        assert_eq!(bench.steps()[..2], [10, 10]);
        seen.push(bench.steps()[2]);
        changes += 1;
        assert_eq!(bench.fold(), [""; 0], "once");
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    assert_eq!((changes, (bench.now - begin).as_secs()), (9, 9));
    assert!(bench.entry().endpoints.iter().all(|e| e.steering.is_none()), "as without");
}

#[test]
fn steps_that_nobody_waited_for_are_left_out() {
    let mut bench = Bench::new(&["10.0.0.1"]);
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bench.after(4), ["ns/web"]);
    assert_eq!(bench.steps(), [10, 5]);
    assert_eq!(bench.after(100), ["ns/web"]);
    assert_eq!((bench.steps(), bench.tracker.step_due()), (vec![10, 10], None));
}

#[test]
fn one_that_went_and_comes_back_is_new() {
    let mut bench = Bench::new(&["10.0.0.1", "10.0.0.2"]);
    bench.serve(&["10.0.0.1"]);
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bench.steps(), [10, 1]);
    bench.after(5);
    bench.serve(&["10.0.0.1"]);
    assert_eq!((bench.steps(), bench.tracker.step_due()), (vec![10], None));
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bench.steps(), [10, 1], "from the beginning");
}

/// Those of other zones have served there; only this node has not used them.
#[test]
fn a_wider_choice_is_no_new_endpoint() {
    let mut bench = Bench::new(&[]);
    let node = Node { zone: Some("a".into()), ..Node::default() };
    bench.tracker.apply(Event::NodeApplied(Arc::new(node)));
    let hinted = |(zone, address): (&str, &str)| {
        let zone_hints = vec![zone.into()];
        crate::SliceEndpoint { zone_hints, ..ready(address) }
    };
    let endpoints = [("a", "10.0.0.1"), ("b", "10.0.0.2")].map(hinted).to_vec();
    bench.tracker.apply(applied_slice(slice("ns/web-1", "web", endpoints)));
    bench.fold();
    assert_eq!(bench.entry().choice.cluster.len(), 1);
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bench.steps(), [STEPS, STEPS]);
    bench.serve(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(bench.steps(), [STEPS, STEPS, 1]);
}

#[test]
fn where_nothing_served_there_is_nothing_to_compare_with() {
    let mut bench = Bench::new(&[]);
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bench.steps(), [10, 10]);
    bench.serve(&[]);
    bench.serve(&["10.0.0.1"]);
    assert_eq!(bench.steps(), [10]);
}

#[test]
fn a_weight_of_nothing_drains_and_one_that_comes_back_is_new() {
    let mut bench = Bench::new(&["10.0.0.1", "10.0.0.2"]);
    let mut weigh = |weight| {
        let mut second = ready("10.0.0.2");
        second.weight = weight;
        let endpoints = vec![ready("10.0.0.1"), second];
        bench.tracker.apply(applied_slice(slice("ns/web-1", "web", endpoints)));
        bench.fold();
        let entry = bench.entry();
        (entry.choice.cluster.len(), entry.endpoints[1].share())
    };
    assert_eq!(weigh(0), (1, 0));
    assert_eq!(weigh(4), (2, 4), "a tenth of four");
    assert_eq!(weigh(6), (2, 6), "another weight is no new beginning, and counts");
    assert_eq!(weigh(0), (1, 0));
    assert_eq!(bench.tracker.step_due(), None);
}

#[test]
fn only_services_that_ask_for_it() {
    let others: [fn(&mut ServicePolicy); 3] = [
        |policy| policy.slow_start = None,
        |policy| policy.slow_start = Some("0".parse().unwrap()),
        |policy| policy.algorithm = Some(Algorithm::SourceHash),
    ];
    for adjust in others {
        let mut bench = Bench::with(&["10.0.0.1"], adjust);
        bench.tracker.offer_algorithms(vec![Algorithm::SourceHash]);
        bench.fold();
        bench.serve(&["10.0.0.1", "10.0.0.2"]);
        assert_eq!((bench.steps(), bench.tracker.step_due()), (vec![10, 10], None));
    }
    // Nor if it ends to do so.
    let mut bench = Bench::new(&["10.0.0.1"]);
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(bench.steps(), [10, 1]);
    bench.tracker.apply(applied(service("ns/web", "10.96.0.1")));
    bench.fold();
    assert_eq!((bench.steps(), bench.tracker.step_due()), (vec![10, 10], None));
}

#[test]
fn nothing_is_left_of_a_service_that_is_gone() {
    let mut bench = Bench::new(&["10.0.0.1"]);
    bench.serve(&["10.0.0.1", "10.0.0.2"]);
    assert!(bench.tracker.step_due().is_some());
    bench.tracker.apply(Event::ServiceDeleted(crate::testing::name("ns/web")));
    bench.fold();
    assert_eq!(bench.tracker.step_due(), None);
}

#[test]
fn without_a_time_nothing_starts_slowly() {
    let mut tracker = tracker();
    let mut web = service("ns/web", "10.96.0.1");
    web.policy.slow_start = Some("9s".parse().unwrap());
    tracker.apply(applied(web));
    for endpoints in [vec![ready("10.0.0.1")], vec![ready("10.0.0.1"), ready("10.0.0.2")]] {
        tracker.apply(applied_slice(slice("ns/web-1", "web", endpoints)));
        tracker.fold();
    }
    assert_eq!(tracker.step_due(), None);
}

/// Each step is a slot for each unit of the weight, and the others keep theirs.
#[test]
fn steps_are_slots() {
    let mut bench = Bench::new(&["10.0.0.1", "10.0.0.2"]);
    let slots = |bench: &Bench| weight::slots(&bench.entry().choice.cluster);
    assert_eq!(slots(&bench), None);
    bench.serve(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    for step in 1..10 {
        assert_eq!(slots(&bench), Some(vec![10, 10, step]));
        bench.after(1);
    }
    assert_eq!(slots(&bench), None);
}

/// Where everything else went, all that is there starts, with equal shares.
#[test]
fn those_that_start_together_have_equal_shares() {
    let mut bench = Bench::new(&["10.0.0.1", "10.0.0.2"]);
    bench.serve(&["10.0.0.3", "10.0.0.4"]);
    assert_eq!(bench.steps(), [1, 1]);
    assert_eq!(weight::slots(&bench.entry().choice.cluster), None);
}

proptest! {
    /// Whatever comes and goes: who starts was not used in the fold before it began, and all is over in the end.
    #[test]
    fn every_start_ends(steps in prop::collection::vec((0..5_u32, 0..64_u8), 1..40)) {
        let mut bench = Bench::new(&["10.0.0.1"]);
        let mut before = vec!["10.0.0.1".to_owned()];
        for (seconds, bits) in steps {
            bench.now += SECOND * seconds;
            let wanted: Vec<String> =
                (0..6).filter(|bit| bits & 1 << bit != 0).map(|bit| format!("10.0.0.{}", bit + 1)).collect();
            bench.serve(&wanted.iter().map(String::as_str).collect::<Vec<_>>());
            for (endpoint, step) in wanted.iter().zip(bench.steps()) {
                let is_new = !before.is_empty() && !before.contains(endpoint);
                prop_assert!(!is_new || step == 1, "{endpoint}: {step}");
                prop_assert!(!before.is_empty() || step == STEPS);
            }
            prop_assert_eq!(bench.tracker.step_due().is_some(), bench.steps().iter().any(|s| *s < STEPS));
            before = wanted;
        }
        bench.after(9);
        prop_assert_eq!(bench.tracker.step_due(), None);
        prop_assert!(bench.steps().iter().all(|step| *step == STEPS));
        let usual = bench.entry().endpoints.iter().all(|e| e.weight() == Steering::USUAL_WEIGHT);
        prop_assert!(usual);
    }
}
