//! Weights of the endpoints of a slice, which its annotations give.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube_proxy_core::Steering;

use super::address;
use crate::problem::Findings;
use crate::slim::{Annotations, Meta, Text};

/// What the annotations of a slice say.
pub(super) struct Weights {
    /// Of endpoints that are not named.
    others: u16,
    named: BTreeMap<IpAddr, u16>,
}

impl Weights {
    /// Reads the annotations. What is invalid counts as if it were not there.
    pub(super) fn read(meta: Option<&Meta<'_>>, findings: &mut Findings) -> Self {
        let mut weights = Self { others: Steering::USUAL_WEIGHT, named: BTreeMap::new() };
        let Some(annotations) = meta.and_then(|meta| meta.annotations.as_ref()) else {
            return weights;
        };
        let own = of_slice(Annotations::WEIGHT, annotations.weight.as_ref(), findings);
        let cilium =
            of_slice(Annotations::CILIUM_WEIGHT, annotations.cilium_weight.as_ref(), findings);
        weights.others = own.or(cilium).unwrap_or(weights.others);
        if let Some(list) = &annotations.endpoint_weights {
            weights.read_named(list, findings);
        }
        weights
    }

    /// The weight of an endpoint.
    pub(super) fn of(&self, address: &IpAddr) -> u16 {
        self.named.get(address).copied().unwrap_or(self.others)
    }

    /// `10.244.1.7=3, 10.244.2.9=0`; an address that the slice does not have may be there still or already.
    fn read_named(&mut self, list: &str, findings: &mut Findings) {
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let read = entry.split_once('=').and_then(|(address, weight)| {
                Some((address::ip(address)?, weight.trim().parse().ok()?))
            });
            if let Some((address, weight)) = read {
                self.named.insert(address, weight);
            } else {
                let reason = "not ADDRESS=WEIGHT with a weight from 0 to 65535; ignored";
                findings.add(field(Annotations::ENDPOINT_WEIGHTS), entry, reason);
            }
        }
    }
}

fn of_slice(name: &str, value: Option<&Text<'_>>, findings: &mut Findings) -> Option<u16> {
    let written = value.map(|value| value.trim()).filter(|value| !value.is_empty())?;
    let weight = written.parse().ok();
    if weight.is_none() {
        findings.add(field(name), written, "not a number from 0 to 65535; ignored");
    }
    weight
}

fn field(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}
