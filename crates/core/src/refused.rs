//! Attempts to connect that no endpoint got.

use crate::{FrontendKind, ServicePortName, Unserved};

/// Why an attempt to connect to a service port got to no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedReason {
    /// No endpoint takes traffic, anywhere.
    NoEndpoints,
    /// None on this node, and the internal policy is `Local`.
    InternalPolicy,
    /// None on this node, and the external policy is `Local`.
    ExternalPolicy,
    /// The source is in none of the source ranges.
    SourceRanges,
}

impl RefusedReason {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::NoEndpoints, Self::InternalPolicy, Self::ExternalPolicy, Self::SourceRanges];

    /// Why traffic of a frontend of this kind goes to no endpoint.
    pub fn of(unserved: Unserved, kind: FrontendKind) -> Self {
        match unserved {
            Unserved::NoEndpoints => Self::NoEndpoints,
            Unserved::NoLocalEndpoints(_) if kind == FrontendKind::ClusterIp => {
                Self::InternalPolicy
            }
            Unserved::NoLocalEndpoints(_) => Self::ExternalPolicy,
        }
    }

    /// The word for it, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEndpoints => "no-endpoints",
            Self::InternalPolicy => "internal-policy",
            Self::ExternalPolicy => "external-policy",
            Self::SourceRanges => "source-ranges",
        }
    }
}

/// How many attempts to connect to a service port were refused or dropped for one reason.
///
/// A client that is not answered repeats its first packet, and each repetition counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The service port.
    pub service: ServicePortName,
    /// Why.
    pub reason: RefusedReason,
    /// How many.
    pub attempts: u64,
}
