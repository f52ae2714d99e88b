//! A change of a Service or its endpoints that reached the node.

use kube_proxy_core::IpFamily;
use kube_proxy_core::tracker::What;
use serde::{Deserialize, Serialize};

use super::time::time;
use crate::family::history;

/// A change of a Service, or of one of its EndpointSlices, that made a difference in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Change {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The namespace of the Service.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// `Service` or `EndpointSlice`.
    pub kind: String,
    /// The name of the object that changed.
    pub object: String,
    /// What happened to it.
    pub what: ChangeKind,
    /// The ready endpoints of the slice; absent for Services and removed slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints_ready: Option<usize>,
    /// All endpoints of the slice; absent for Services and removed slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints_total: Option<usize>,
    /// When that happened which the API server was told of (RFC 3339): the trigger time of the slice, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggered: Option<String>,
    /// When this process received the change (RFC 3339).
    pub received: String,
    /// When the node had it (RFC 3339), also where nothing had to be written; absent while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_kernel: Option<String>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is different.
    Changed,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

impl Change {
    pub(super) fn new(family: IpFamily, change: &history::Change) -> Self {
        let history::Change { object, received, in_kernel } = change;
        Self {
            family: family.to_string(),
            namespace: (*object.service.namespace).to_owned(),
            service: (*object.service.name).to_owned(),
            kind: object.kind.to_string(),
            object: (*object.object.name).to_owned(),
            what: match object.what {
                What::Added => ChangeKind::Added,
                What::Changed => ChangeKind::Changed,
                What::Removed => ChangeKind::Removed,
            },
            endpoints_ready: object.endpoints.map(|endpoints| endpoints.ready),
            endpoints_total: object.endpoints.map(|endpoints| endpoints.total),
            triggered: object.trigger_time.map(time),
            received: time(*received),
            in_kernel: in_kernel.map(time),
        }
    }
}
