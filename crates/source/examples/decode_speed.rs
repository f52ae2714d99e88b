//! How fast lists of EndpointSlices are decoded and normalised.
//!
//! `cargo run --profile quick-release -p kube-proxy-source --example decode_speed [SLICES [ENDPOINTS]]`
//!
//! The objects look like those of a real cluster: ten endpoints with target references, and managed fields that nothing needs.

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fake_apiserver::{protobuf_event, protobuf_list};
use kube_proxy_core::{Event, Kind};
use kube_proxy_source::Context;
use kube_proxy_source::decode::{self, Format};
use serde_json::{Value, json};

/// Objects per page, as the source asks for.
const PAGE: usize = 500;
/// Every figure is the best of this many rounds.
const ROUNDS: u32 = 5;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let slices = arguments.next().unwrap_or(10_000);
    let endpoints = arguments.next().unwrap_or(10);
    let objects: Vec<Value> = (0..slices).map(|i| slice(i, endpoints)).collect();
    println!("{slices} EndpointSlices x {endpoints} endpoints");
    for (format, name) in [(Format::Json, "JSON"), (Format::Protobuf, "protobuf")] {
        let pages: Vec<_> = objects.chunks(PAGE).map(|objects| page(format, objects)).collect();
        let events: Vec<_> = objects.iter().map(|object| event(format, object)).collect();
        let read_pages = |context: &Context| -> usize {
            pages.iter().map(|page| decode_page(format, page, context)).sum()
        };
        report(&format!("{name}, pages of a list"), &pages, slices * endpoints, read_pages);
        let read_events = |context: &Context| -> usize {
            events.iter().map(|event| decode_event(format, event, context)).sum()
        };
        report(&format!("{name}, a streaming list"), &events, slices * endpoints, read_events);
        let broken = objects.chunks(PAGE).map(|objects| {
            let mut objects = objects.to_vec();
            objects[0]["ports"][0]["port"] = "x".into();
            page(format, &objects)
        });
        let broken: Vec<_> = broken.collect();
        let left = slices.saturating_sub(broken.len()) * endpoints;
        let read_broken = |context: &Context| -> usize {
            broken.iter().map(|page| decode_page(format, page, context)).sum()
        };
        report(&format!("{name}, pages with one bad object each"), &broken, left, read_broken);
    }
}

/// Runs one way to read, several times, and prints its speed.
fn report(what: &str, bodies: &[Vec<u8>], expected: usize, read: impl Fn(&Context) -> usize) {
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let context = Context::default();
        let begun = Instant::now();
        let endpoints = read(&context);
        best = best.min(begun.elapsed());
        assert_eq!(endpoints, expected, "{what}");
    }
    // Bytes per microsecond are megabytes per second.
    let micros = usize::try_from(best.as_micros()).unwrap_or(usize::MAX);
    let (megabytes, speed) = (bytes / 1_000_000, bytes / micros.max(1));
    println!("{what}: {megabytes} MB in {best:.1?}, {speed} MB/s");
}

fn decode_page(format: Format, page: &[u8], context: &Context) -> usize {
    let mut endpoints = 0;
    let kind = Kind::EndpointSlice;
    let head = decode::page(format, kind, page, context, &mut |object| {
        endpoints += count(&object.event);
    });
    assert!(head.is_ok(), "a page");
    endpoints
}

fn decode_event(format: Format, event: &[u8], context: &Context) -> usize {
    match decode::watch_event(format, Kind::EndpointSlice, event, context) {
        Ok(decode::WatchEvent::Applied(object, _)) => count(&object.event),
        _ => 0,
    }
}

fn count(event: &Event) -> usize {
    match event {
        Event::EndpointSliceApplied(slice) => slice.endpoints.len(),
        _ => 0,
    }
}

fn page(format: Format, objects: &[Value]) -> Vec<u8> {
    let metadata = json!({"resourceVersion": "9"});
    match format {
        Format::Protobuf => protobuf_list("EndpointSlice", &metadata, objects),
        Format::Json => {
            let list = json!({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
                "metadata": metadata, "items": objects});
            list.to_string().into_bytes()
        }
    }
}

fn event(format: Format, object: &Value) -> Vec<u8> {
    match format {
        // Without the length before it.
        Format::Protobuf => protobuf_event("ADDED", "EndpointSlice", object).split_off(4),
        Format::Json => json!({"type": "ADDED", "object": object}).to_string().into_bytes(),
    }
}

fn slice(index: usize, endpoints: usize) -> Value {
    let mut text = format!(
        r#"{{"metadata":{{"name":"service-{index}-abcde","generateName":"service-{index}-","namespace":"namespace-{}","uid":"8f1d0a3e-7c55-4b0e-9a51-{index:012}","resourceVersion":"{index}","generation":3,"creationTimestamp":"2024-05-01T10:00:00Z","labels":{{"app":"service-{index}","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"service-{index}"}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"2024-05-01T10:00:00Z"}},"managedFields":[{}]}},"addressType":"IPv4","endpoints":["#,
        index % 50,
        managed_fields(endpoints)
    );
    for e in 0..endpoints {
        let comma = if e == 0 { "" } else { "," };
        let (a, b, c) = (1 + index / 200 % 250, index % 200, e % 250 + 1);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            r#"{comma}{{"addresses":["10.{a}.{b}.{c}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"targetRef":{{"kind":"Pod","namespace":"namespace-{}","name":"service-{index}-6c5f7d8b9-{e:05}","uid":"3b1e6b0e-4a4f-4a89-9d0c-{e:012}"}},"nodeName":"node-{}","zone":"zone-{}"}}"#,
            index % 50,
            (index + e) % 5000,
            e % 3
        );
    }
    text.push_str(r#"],"ports":[{"name":"http","protocol":"TCP","port":8080}]}"#);
    serde_json::from_str(&text).unwrap_or_default()
}

/// What server-side apply keeps about who set which field: about as long as the rest.
fn managed_fields(endpoints: usize) -> String {
    let mut fields = String::from(
        r#"{"manager":"kube-controller-manager","operation":"Update","apiVersion":"discovery.k8s.io/v1","time":"2024-05-01T10:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:addressType":{},"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"8f1d0a3e-7c55-4b0e-9a51-000000000000\"}":{}}},"f:ports":{}"#,
    );
    for e in 0..endpoints {
        let _ = write!(
            fields,
            r#","k:{{\"endpoint\":\"{e}\"}}":{{".":{{}},"f:addresses":{{}},"f:conditions":{{".":{{}},"f:ready":{{}},"f:serving":{{}},"f:terminating":{{}}}},"f:nodeName":{{}},"f:targetRef":{{}},"f:zone":{{}}}}"#
        );
    }
    fields.push_str("}}");
    fields
}
