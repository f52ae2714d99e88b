//! Names, metadata and fields that are unknown.

use serde_json::{Value, json};

use super::Attack;
use crate::objects::Svc;
use crate::world::{TARGET, World};

const FIRST: u8 = 20;
/// The size of all annotations of an object that the API server takes.
const ANNOTATIONS: usize = 256 * 1024;

pub(super) fn all(world: &World) -> Vec<Attack> {
    let names = [
        "n".repeat(253),
        "with.dots.in.it".to_owned(),
        "case".to_owned(),
        "Case".to_owned(),
        "-".to_owned(),
        "a\"b\\c d".to_owned(),
        "ä".repeat(100),
    ];
    let bare = names.iter().map(|name| (name.clone(), Value::Null));
    let metadata = [
        ("huge", json!({ "annotations": { "x": "x".repeat(ANNOTATIONS) } })),
        (
            "null",
            json!({ "annotations": null, "labels": null, "ownerReferences": null, "finalizers": null, "managedFields": null }),
        ),
        ("lists", json!({ "annotations": [], "labels": [] })),
        ("numbers", json!({ "annotations": { "x": 7 }, "labels": { "y": 7 } })),
        (
            "leaving",
            json!({ "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0, "finalizers": ["x/y"] }),
        ),
        ("generated", json!({ "generateName": "generated-" })),
        (
            "unknown",
            json!({ "unheard": { "of": [1, 2, 3] }, "creationTimestamp": "yesterday", "generation": "x" }),
        ),
    ];
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut all = Vec::new();
    for (number, (name, metadata)) in (FIRST..).zip(bare.chain(metadata)) {
        let service = Svc::new(&name, number);
        let mut objects = vec![service.object()];
        objects.extend(service.slices(TARGET, &world.endpoints(&["local-2"])));
        for object in &mut objects {
            for (key, value) in metadata.as_object().into_iter().flatten() {
                let mut value = value.clone();
                // What ties a slice to its Service stays.
                if let (Some(labels), Some(old)) =
                    (value.as_object_mut(), object["metadata"][key].as_object())
                {
                    labels.extend(old.clone());
                }
                object["metadata"][key] = value;
            }
            object["unheard"] = json!({ "deep": [[[[[[[[null]]]]]]]] });
            object["spec"]["unheard"] = json!(1e300);
        }
        let shown: String = name.chars().take(20).collect();
        all.push(Attack::new(&shown, objects));
    }
    all.push(Attack::new("the node", [node(world)]));
    all
}

/// The Node of this proxy, leaving, with much that is odd and the addresses as before.
fn node(world: &World) -> Value {
    let known = world.api.get("Node", "", crate::world::NODE);
    let mut node = known.unwrap_or_else(|| crate::objects::node(crate::world::NODE, 0, "zone-a"));
    node["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    node["metadata"]["annotations"] = json!({ "x": "x".repeat(ANNOTATIONS) });
    node["spec"]["taints"] = json!([null, {}, { "key": 7 }]);
    if let Some(addresses) = node["status"]["addresses"].as_array_mut() {
        addresses.extend([
            json!(null),
            json!({}),
            json!({ "type": "InternalIP", "address": "x" }),
            json!({ "type": 7, "address": 7 }),
        ]);
    }
    node
}
