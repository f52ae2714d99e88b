//! Endpoints, and why they take traffic or none.

use std::fmt;
use std::net::SocketAddr;

use kube_proxy_core::Steering;
use kube_proxy_core::slow_start::STEPS;
use serde::{Deserialize, Serialize};

use super::names::{FrontendKind, Policy};

/// One endpoint of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "conditions of the API")]
pub struct Endpoint {
    /// Its address and port.
    pub address: SocketAddr,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, even if it is about to go.
    pub serving: bool,
    /// It is being shut down.
    pub terminating: bool,
    /// It runs on this node.
    pub local: bool,
    /// The zones that its hints name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zone_hints: Vec<String>,
    /// What its node hints name: this node (`true`) or others only (`false`); absent without hints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hinted_here: Option<bool>,
    /// How many new connections it gets, compared with others; 0 drains it; absent where nothing gives it a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// How far its share has grown; absent unless it starts slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Whether each policy of the service port uses it.
    pub selections: Vec<Selection>,
}

/// How far the share of a new endpoint has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SlowStart {
    /// The number of its step, from 1 on.
    pub step: u8,
    /// The number of the last step, at which it has all of its weight.
    pub of: u8,
}

impl SlowStart {
    pub(super) fn of(endpoint: &kube_proxy_core::Endpoint) -> Option<Self> {
        endpoint.step().map(|step| Self { step: step.number(), of: STEPS })
    }
}

impl fmt::Display for SlowStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slow start: step {} of {}", self.step, self.of)
    }
}

/// What an endpoint counts, in words; `None` if nothing gives it a weight.
pub fn weight_text(weight: Option<u16>, slow_start: Option<SlowStart>) -> Option<String> {
    let Some(SlowStart { step, .. }) = slow_start else {
        return weight.map(|weight| format!("weight {weight}"));
    };
    let tenths = u32::from(weight.unwrap_or(Steering::USUAL_WEIGHT)) * u32::from(step);
    Some(format!("weight {}.{}", tenths / 10, tenths % 10))
}

/// Whether the frontends of one policy use an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Selection {
    /// The policy.
    pub policy: Policy,
    /// The kinds of frontends it is for. Under the external policy `Local`, traffic of this node and its pods uses policy `Cluster`.
    pub frontends: Vec<FrontendKind>,
    /// Why the endpoint is not used; absent when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<UnusedReason>,
}

/// Why an endpoint is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum UnusedReason {
    /// It runs on another node, and the policy allows local ones only.
    NotLocal,
    /// It is not ready.
    NotReady,
    /// It is terminating, and there are ready ones.
    Terminating,
    /// It is terminating and no longer answers.
    NotServing,
    /// Its hints name other nodes.
    HintsOtherNode,
    /// Its hints name other zones.
    HintsOtherZone,
    /// Its weight is 0: it keeps the connections that it has, and gets no new ones.
    Draining,
}

impl Endpoint {
    /// Whether any frontend uses it.
    pub fn is_used(&self) -> bool {
        self.selections.iter().any(|selection| selection.unused.is_none())
    }
}

impl UnusedReason {
    /// The reason in a few words.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotLocal => "not on this node",
            Self::NotReady => "not ready",
            Self::Terminating => "terminating",
            Self::NotServing => "terminating, no longer serving",
            Self::HintsOtherNode => "hints name other nodes",
            Self::HintsOtherZone => "hints name other zones",
            Self::Draining => "draining, its weight is 0",
        }
    }
}
