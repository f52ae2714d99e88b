//! A model of the kernel's table: what a stream of changes leaves in it is what a fresh build puts there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::{
    Algorithm, Conditions, EndpointSlice, Event, IpFamily, LocalTrafficDetector, Node, ObjectName,
    Port, Protocol, Service, SliceEndpoint, SlicePort, Tracker, TrafficPolicy,
};
use proptest::prelude::*;

use super::*;
use crate::actual::Actual;
use crate::element::Value;
use crate::key::Key;
use crate::text::text;

/// What the kernel would hold; it is as strict.
#[derive(Debug, Default)]
struct Table {
    elements: BTreeMap<(SetId, Key), Item>,
    chains: FxHashSet<Chain>,
}

impl Table {
    fn apply(&mut self, diff: &Diff) {
        for chain in &diff.new_chains {
            if let Some(next) = chain.leads_to() {
                let there = self.chains.contains(&next);
                assert!(there, "{chain} leads to {next}, which is not there");
            }
            assert!(self.chains.insert(*chain), "{chain} is there already");
        }
        for set in &diff.flushed {
            self.elements.retain(|(of, _), _| of != set);
        }
        for (set, items) in diff.deleted.iter() {
            assert!(!set.is_plain_intervals(), "{set:?} is written whole");
            for item in items {
                let old = self.elements.remove(&(set, item.key));
                assert_eq!(old.as_ref(), Some(item), "deleted from {set:?}");
            }
        }
        for (set, items) in diff.added.iter() {
            for item in items {
                if let Value::Goto(chain) = item.value {
                    assert!(chain == Chain::Reject || self.chains.contains(&chain), "{chain}");
                }
                let old = self.elements.insert((set, item.key), item.clone());
                assert_eq!(old, None, "added to {set:?}");
            }
        }
        for chain in &diff.stale_chains {
            assert!(self.chains.remove(chain), "{chain} is not there");
            let used = self.elements.values().find(|item| item.value == Value::Goto(*chain));
            assert_eq!(used, None, "{chain} is in use");
        }
    }

    /// All elements as text; slots without their order, as that depends on history.
    fn normal(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut slots: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
        for ((set, _), item) in &self.elements {
            let text = text(*set, item, IpFamily::V4);
            let Some((key, value)) = text.split_once(" : ") else {
                all.push(text);
                continue;
            };
            match *set {
                SetId::FrontendIps
                | SetId::FrontendNodeports
                | SetId::ShortCircuitIps
                | SetId::ShortCircuitNodeports
                | SetId::StickyIps
                | SetId::StickyNodeports
                | SetId::UnservedIps
                | SetId::UnservedNodeports
                | SetId::LoopbackNodeports
                | SetId::FirewallDropped => all.push(text),
                _ => {
                    let (frontend, slot) = key.rsplit_once(" . ").unwrap();
                    let slot = (slot.parse().unwrap(), value.to_owned());
                    slots.entry(frontend.to_owned()).or_default().push(slot);
                }
            }
        }
        for (frontend, mut slots) in slots {
            slots.sort_unstable();
            let numbers: Vec<_> = slots.iter().map(|(number, _)| *number).collect();
            let expected: Vec<_> = (0..).take(slots.len()).collect();
            assert_eq!(numbers, expected, "{frontend}: slots without a hole");
            let mut values: Vec<_> = slots.into_iter().map(|(_, value)| value).collect();
            values.sort_unstable();
            all.push(format!("{frontend}: {}", values.join(", ")));
        }
        all.sort_unstable();
        all
    }
}

fn config() -> Config {
    Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::Bridge("cni0".into()),
        node_ports: NodePortAddresses::Within(vec!["10.0.0.0/24".parse().unwrap()]),
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
        fast_path_choice: true,
    }
}

/// A fresh build, as a table.
fn built(snapshot: &Snapshot) -> (State, Table) {
    let config = config();
    let mut state = State::build(snapshot, &Actual::Nothing, &config);
    let repair = Actual::Nothing.repair(&mut state, &config);
    assert!(repair.all_elements);
    let mut diff = repair.diff;
    for set in SetId::ALL {
        let items: Vec<_> = state.elements_of(set, &config).collect();
        assert_eq!(items.len(), repair.counts.of(set), "{set:?}");
        for item in items {
            diff.added.push(set, item);
        }
    }
    let mut table = Table::default();
    table.apply(&diff);
    (state, table)
}

#[derive(Clone, Debug)]
enum Step {
    Service { number: u8, shape: u16 },
    DeleteService(u8),
    Endpoints { service: u8, endpoints: Vec<(u8, u8)> },
    ServiceCidr(u8),
    NodeIp(u8),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, any::<u16>()).prop_map(|(number, shape)| Step::Service { number, shape }),
        1 => (0..4_u8).prop_map(Step::DeleteService),
        4 => (0..4_u8, prop::collection::btree_map(0..8_u8, 0..12_u8, 0..6)).prop_map(
            |(service, endpoints)| Step::Endpoints {
                service,
                endpoints: endpoints.into_iter().collect()
            }
        ),
        1 => (0..4_u8).prop_map(Step::ServiceCidr),
        1 => (0..3_u8).prop_map(Step::NodeIp),
        4 => Just(Step::Sync),
    ]
}

/// A Service whose properties are the bits of `shape`; addresses and ports are shared with others.
fn service(number: u8, shape: u16) -> Service {
    let bit = |index: u16| shape & 1 << index != 0;
    let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
    let mut service = Service::new(ObjectName::new("ns", format!("svc-{number}")));
    service.cluster_ips.v4 = Some([10, 96, 0, number / 2].into());
    service.policy.internal_traffic_policy = policy(bit(0));
    service.policy.external_traffic_policy = policy(bit(1));
    service.policy.session_affinity =
        bit(2).then_some(Duration::from_secs(if bit(3) { 60 } else { 90 }));
    if bit(4) {
        service.external_ips = vec![[198, 51, 100, number % 3].into()];
    }
    if bit(5) {
        service.load_balancer_vips = vec![[203, 0, 113, 1].into(), [203, 0, 113, number].into()];
    }
    if bit(6) {
        let nets = ["10.0.0.0/24", "10.0.0.128/25", "192.0.2.0/24", "203.0.113.0/28"];
        let first = usize::from(number % 3);
        service.policy.load_balancer_source_ranges =
            nets[first..].iter().map(|net| net.parse().unwrap()).collect();
    }
    service.policy.algorithm = bit(11).then_some(Algorithm::SourceHash);
    for (index, protocol) in [(7, Protocol::Tcp), (8, Protocol::Udp), (9, Protocol::Sctp)] {
        if bit(index) || index == 7 {
            let node_port = 30_000 + shape % 4;
            service.ports.push(Port {
                name: format!("p{index}").into(),
                protocol,
                port: (80 + shape % 3).try_into().unwrap(),
                node_port: bit(10).then(|| node_port.try_into().unwrap()),
            });
        }
    }
    service
}

/// Endpoints by number, each with its state, to which 4 adds for a weight of 3 and 8 for one of 0.
fn slice(service: u8, endpoints: &[(u8, u8)]) -> EndpointSlice {
    let endpoints = endpoints.iter().map(|(number, state)| {
        let node = Some(if number % 2 == 0 { "here" } else { "there" }.into());
        let weight = [1, 3, 0][usize::from(state / 4)];
        let (ready, terminating) = (state % 4 < 2, state % 4 == 3);
        let conditions = Conditions { ready, serving: true, terminating };
        let ip = [10, 244, 0, *number].into();
        SliceEndpoint { node, conditions, weight, ..SliceEndpoint::ready(ip) }
    });
    let port = |index: u8, protocol| SlicePort {
        name: format!("p{index}").into(),
        protocol,
        port: 8080.try_into().unwrap(),
    };
    EndpointSlice {
        name: ObjectName::new("ns", format!("svc-{service}-1")),
        service: format!("svc-{service}").into(),
        family: IpFamily::V4,
        ports: vec![port(7, Protocol::Tcp), port(8, Protocol::Udp), port(9, Protocol::Sctp)],
        endpoints: endpoints.collect(),
        trigger_time: None,
    }
}

fn event(step: &Step) -> Option<Event> {
    Some(match step {
        Step::Service { number, shape } => {
            Event::ServiceApplied(Arc::new(service(*number, *shape)))
        }
        Step::DeleteService(number) => {
            Event::ServiceDeleted(ObjectName::new("ns", format!("svc-{number}")))
        }
        Step::Endpoints { service, endpoints } => {
            Event::EndpointSliceApplied(slice(*service, endpoints))
        }
        Step::ServiceCidr(number) => {
            let nets = ["10.96.0.0/16", "10.97.0.0/16", "10.99.0.0/16"];
            let nets = nets.iter().take(usize::from(*number)).map(|net| net.parse().unwrap());
            Event::ServiceCidrApplied(ObjectName::new("", "cidr"), nets.collect())
        }
        Step::NodeIp(number) => Event::NodeApplied(Arc::new(Node {
            name: "here".into(),
            addresses: vec![[10, 0, *number, 1].into()],
            ..Node::default()
        })),
        Step::Sync => return None,
    })
}

fn tracker() -> Tracker {
    let mut tracker = Tracker::new(kube_proxy_core::testing::options(IpFamily::V4));
    tracker.offer_algorithms(vec![Algorithm::SourceHash]);
    tracker
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changes_lead_to_what_a_fresh_build_makes(steps in prop::collection::vec(step(), 1..60)) {
        let mut tracker = tracker();
        let (mut state, mut table) = built(tracker.snapshot());
        for step in steps.iter().chain([&Step::Sync]) {
            if let Some(event) = event(step) {
                tracker.apply(event);
                continue;
            }
            let changes = tracker.fold();
            let (diff, _) = state.update(tracker.snapshot(), &changes, &config());
            table.apply(&diff);
            prop_assert_eq!(&table.chains, state.chains());
            let (_, fresh) = built(tracker.snapshot());
            prop_assert_eq!(table.normal(), fresh.normal());
            // A fresh table has chains to spare.
            let mut needed = fresh.chains.iter().filter(|chain| !chain.is_plain());
            prop_assert!(needed.all(|chain| table.chains.contains(chain)));
            let (again, _) = state.update(tracker.snapshot(), &changes, &config());
            prop_assert!(again.is_empty(), "nothing to do the second time: {:?}", again);
        }
    }
}

/// What it costs to give Service 7 of many other endpoints than 1, 2 and 3: deleted and added elements.
fn cost(endpoints: &[(u8, u8)]) -> (usize, usize) {
    let mut tracker = tracker();
    for number in 0..200_u8 {
        let mut service = service(0, 0);
        service.name = ObjectName::new("ns", format!("svc-{number}"));
        service.cluster_ips.v4 = Some([10, 96, 1, number].into());
        tracker.apply(Event::ServiceApplied(Arc::new(service)));
        tracker.apply(Event::EndpointSliceApplied(slice(number, &[(1, 0), (2, 0), (3, 0)])));
    }
    tracker.fold();
    let (mut state, _) = built(tracker.snapshot());
    tracker.apply(Event::EndpointSliceApplied(slice(7, endpoints)));
    let changes = tracker.fold();
    let (diff, _) = state.update(tracker.snapshot(), &changes, &config());
    let count = |elements: &crate::diff::PerSet| {
        elements.iter().map(|(_, items)| items.len()).sum::<usize>()
    };
    (count(&diff.deleted), count(&diff.added))
}

#[test]
fn one_change_in_a_large_cluster_costs_a_few_elements() {
    // Slot 1 changes, slot 2 goes, and the frontend leads to the chain for two.
    assert_eq!(cost(&[(1, 0), (3, 0)]), (3, 2));
}

/// So that every node has the same.
#[test]
fn slots_of_a_hash_depend_on_nothing_but_the_endpoints() {
    let mut tracker = tracker();
    tracker.apply(Event::ServiceApplied(Arc::new(service(0, 1 << 11))));
    let all = [(1, 0), (2, 4), (3, 0), (4, 0)];
    let mut table = Table::default();
    let mut state = State::default();
    for endpoints in [&all[..], &all[1..3], &all[..2], &all] {
        tracker.apply(Event::EndpointSliceApplied(slice(0, endpoints)));
        let changes = tracker.fold();
        let (diff, _) = state.update(tracker.snapshot(), &changes, &config());
        table.apply(&diff);
    }
    let (_, fresh) = built(tracker.snapshot());
    let slots = |table: &Table| -> Vec<Item> {
        let all = table.elements.iter().filter(|((set, _), _)| *set == SetId::ClusterEndpoints);
        all.map(|(_, item)| item.clone()).collect()
    };
    assert_eq!(slots(&table).len(), 6);
    assert_eq!(slots(&table), slots(&fresh));
}

#[test]
fn a_weight_costs_its_slots() {
    // Two slots more, and the frontend leads to the chain for five.
    assert_eq!(cost(&[(1, 0), (2, 4), (3, 0)]), (1, 3));
    // As if it went: slot 1 changes, slot 2 goes, and the frontend leads to the chain for two.
    assert_eq!(cost(&[(1, 0), (2, 8), (3, 0)]), (3, 2));
    // All weights alike are none.
    assert_eq!(cost(&[(1, 4), (2, 4), (3, 4)]), (0, 0));
}
