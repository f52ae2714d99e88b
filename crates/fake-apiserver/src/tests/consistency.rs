//! Whatever happens, what a watch reports adds up to what a list says.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::ApiServer;
use super::client::{WatchClient, get};
use super::{server, service};

/// Small, repeatable pseudo-random numbers (a linear congruential generator with Knuth's factors).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Creates, changes, hides, shows or deletes one of a few Services.
fn write_something(server: &ApiServer, seed: &mut u64) {
    let name = format!("s{}", random(seed) % 8);
    if random(seed).is_multiple_of(4) {
        // It may not exist, which is as good.
        let _ = server.delete("Service", "default", &name);
        return;
    }
    let mut object = service("default", &name);
    object["spec"]["ports"][0]["port"] = json!(random(seed) % 3 + 80);
    if random(seed).is_multiple_of(2) {
        object["metadata"]["labels"]["hidden"] = "1".into();
    }
    server.apply(object).unwrap();
}

/// Folds events up to the one of the last write, an object named `end`.
fn fold(watch: &mut WatchClient) -> BTreeMap<String, Value> {
    let mut state = BTreeMap::new();
    loop {
        let mut event = watch.event();
        let object = event["object"].take();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if name == "end" {
            return state;
        }
        let known = match event["type"].as_str() {
            Some("ADDED") => state.insert(name, object).is_none(),
            Some("MODIFIED") => state.insert(name, object).is_some(),
            _ => state.remove(&name).is_some(),
        };
        assert!(known, "{event}: an event that does not follow from those before");
    }
}

#[test]
fn a_folded_watch_equals_the_list() {
    let server = server();
    let mut seed = 3;
    for selector in ["", "&labelSelector=%21hidden", "&labelSelector=hidden"] {
        let list = format!("/api/v1/services?limit=0{selector}");
        (0..20).for_each(|_| write_something(&server, &mut seed));
        let mut early = WatchClient::open(&server, &format!("{list}&watch=1"));
        (0..300).for_each(|_| write_something(&server, &mut seed));
        let expected: Vec<Value> = get(&server, &list).json()["items"].as_array().unwrap().clone();
        // It matches both selectors in turn, so that every watch sees it.
        for hidden in [false, true] {
            let mut end = service("default", "end");
            if hidden {
                end["metadata"]["labels"]["hidden"] = "1".into();
            }
            server.apply(end).unwrap();
        }
        server.delete("Service", "default", "end").unwrap();
        let mut folded: Vec<Value> = fold(&mut early).into_values().collect();
        for object in folded.iter_mut().filter_map(Value::as_object_mut) {
            object.remove("kind");
            object.remove("apiVersion");
        }
        assert_eq!(folded, expected, "{selector}");
    }
}
