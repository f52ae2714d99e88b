//! What Services ask of the fast path.

use kube_proxy_core::{Protocol, ServicePort};

/// The annotation of a Service: `true` or `false`.
pub const ANNOTATION: &str = "kube-proxy.io/fast-path";

/// What a service port asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Its established connections go through the flowtable.
    In,
    /// They go through the rules.
    Out,
}

impl Wish {
    /// What it asks for, if it asks for anything that a flowtable does.
    pub(crate) fn of(port: &ServicePort) -> Option<Self> {
        let written = port.policy.annotation(ANNOTATION)?;
        match written {
            _ if port.protocol == Protocol::Sctp => None,
            "true" => Some(Self::In),
            "false" => Some(Self::Out),
            _ => None,
        }
    }
}
