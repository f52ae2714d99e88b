//! Which flows a dump is about.

use std::net::IpAddr;

use nix::errno::Errno;

use super::flow::{Flow, Status, Transport, Tuple};
use crate::Family;

/// Conditions on one direction; what is `None` matches everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// The source address.
    pub source: Option<IpAddr>,
    /// The destination address.
    pub destination: Option<IpAddr>,
    /// The source port.
    pub source_port: Option<u16>,
    /// The destination port.
    pub destination_port: Option<u16>,
}

impl TupleFilter {
    fn matches(&self, tuple: &Tuple) -> bool {
        let (source_port, destination_port) = match tuple.transport {
            Transport::Ports { source, destination } => (Some(source), Some(destination)),
            Transport::Icmp { .. } | Transport::None => (None, None),
        };
        self.source.is_none_or(|wanted| wanted == tuple.source)
            && self.destination.is_none_or(|wanted| wanted == tuple.destination)
            && (self.source_port.is_none() || self.source_port == source_port)
            && (self.destination_port.is_none() || self.destination_port == destination_port)
    }
}

/// Which flows a dump is about: all conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The address family.
    pub family: Family,
    /// The IP protocol number. The kernel looks at ports only together with it.
    pub protocol: Option<u8>,
    /// The direction of the first packet.
    pub original: TupleFilter,
    /// The direction of answers.
    pub reply: TupleFilter,
    /// Only flows without a packet in the reply direction. Kernels before 5.18 send the others too, and user space leaves them out.
    pub unanswered: bool,
}

impl Filter {
    /// All flows of a family.
    pub fn family(family: Family) -> Self {
        Self {
            family,
            protocol: None,
            original: TupleFilter::default(),
            reply: TupleFilter::default(),
            unanswered: false,
        }
    }

    /// All flows of a family and a protocol.
    pub fn protocol(family: Family, protocol: u8) -> Self {
        Self { protocol: Some(protocol), ..Self::family(family) }
    }

    /// Whether a flow matches: the same answer as the kernel's.
    pub fn matches(&self, flow: &Flow) -> bool {
        self.family == flow.family()
            && !(self.unanswered && flow.status.contains(Status::SEEN_REPLY))
            && self.protocol.is_none_or(|protocol| protocol == flow.original.protocol)
            && self.original.matches(&flow.original)
            && self.reply.matches(&flow.reply)
    }
}

/// Whether an answer to a dump means that the kernel cannot filter like this.
pub(super) fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::EINVAL | Errno::EOPNOTSUPP)
}
