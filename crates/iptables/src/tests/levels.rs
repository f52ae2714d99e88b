//! A chain that is refused some number of times, for an unknown reason: each sync goes deeper than the one before.

use std::time::Instant;

use kube_proxy_core::testing::{
    applied, applied_slice, check_repair_levels, ready, service, slice, sync, synced,
};
use kube_proxy_core::{Event, IpFamily, Proxy};

use super::build::{backend, config};
use super::model::Model;

/// A Service with an endpoint.
fn served(number: u8) -> Vec<Event> {
    let name = format!("ns/s{number}");
    let endpoints = vec![ready(&format!("10.1.0.{number}"))];
    vec![
        applied(service(&name, &format!("10.96.0.{number}"))),
        applied_slice(slice(&format!("{name}-x"), &format!("s{number}"), endpoints)),
    ]
}

/// A proxy that has synced one Service, and has to sync another.
fn begin(model: &Model, now: Instant) -> Proxy {
    let backend = backend(config(IpFamily::V4), model);
    let mut proxy = synced(Box::new(backend), served(1), now);
    for event in served(2) {
        proxy.apply(event, now);
    }
    proxy
}

#[test]
fn what_is_refused_again_goes_deeper_each_time() {
    check_repair_levels(
        |times, now| {
            let model = Model::default();
            let proxy = begin(&model, now);
            let inputs = model.inputs().len();
            model.refuse("KUBE-SERVICES", times);
            (proxy, (model, inputs))
        },
        |(model, inputs), times| {
            assert_eq!(model.inputs().len() - inputs, times + 1, "one restore for each sync");
            // As on a node where nothing was ever refused.
            let (other, now) = (Model::default(), Instant::now());
            sync(&mut begin(&other, now), now).result.unwrap();
            assert_eq!(model.dump(), other.dump());
        },
    );
}
