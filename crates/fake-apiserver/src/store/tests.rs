use serde_json::{Map, Value, json};

use super::super::resource::TypeId;
use super::{Condition, Store};

const WINDOW: usize = 64;

fn services() -> TypeId {
    TypeId::by_kind("v1", "Service").unwrap()
}

fn object(content: u64) -> Map<String, Value> {
    let value = json!({"metadata": {"uid": "u", "creationTimestamp": "t"}, "spec": {"n": content}});
    value.as_object().unwrap().clone()
}

/// Small, repeatable pseudo-random numbers (a linear congruential generator with Knuth's factors).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Name and resourceVersion of everything in a view.
fn summary(store: &mut Store, version: u64) -> Option<Vec<(String, u64)>> {
    let view = store.view_at(services(), version).ok()?;
    Some(view.iter().map(|o| (o.name.to_string(), o.version)).collect())
}

#[test]
fn every_version_in_the_window_can_be_seen_again() {
    let mut store = Store::new(WINDOW);
    let mut seed = 7;
    let mut states = vec![(store.version(), Vec::new())];
    for _ in 0..400 {
        let name = format!("s{}", random(&mut seed) % 12);
        if random(&mut seed).is_multiple_of(3) {
            store.delete(services(), "ns", &name);
        } else {
            let content = object(random(&mut seed) % 3);
            store.put(services(), "ns", &name, content, Condition::Any).unwrap();
        }
        let version = store.version();
        if states.last().is_some_and(|(last, _)| *last < version) {
            states.push((version, summary(&mut store, version).unwrap()));
        }
    }
    store.forget_views();
    assert!(states.len() > 2 * WINDOW, "enough was written: {}", states.len());
    let known = states.len() - WINDOW - 1;
    for (at, (version, expected)) in states.iter().enumerate() {
        let found = summary(&mut store, *version);
        let expected = (at >= known).then_some(expected);
        assert_eq!(found.as_ref(), expected, "version {version}, {at} of {}", states.len());
    }
}

#[test]
fn bytes_are_the_object_under_its_version() {
    let mut store = Store::new(WINDOW);
    for version in 1001..1012 {
        let (object, _) =
            store.put(services(), "ns", "a", object(version), Condition::Any).unwrap();
        let value = object.to_value();
        assert_eq!(value["metadata"]["resourceVersion"], version.to_string());
        assert_eq!(value["spec"]["n"], version);
        let later = object.with_version(version * 1000);
        assert_eq!(later.to_value()["metadata"]["resourceVersion"], (version * 1000).to_string());
        assert_eq!(later.content(), object.content());
    }
}

#[test]
fn an_object_without_a_rest_is_still_json() {
    let mut store = Store::new(WINDOW);
    let (bare, _) = store.put(services(), "ns", "a", Map::new(), Condition::Any).unwrap();
    assert_eq!(bare.to_value()["metadata"]["name"], "a");
}
