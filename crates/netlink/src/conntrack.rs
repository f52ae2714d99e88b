//! Connection tracking: list flows, delete one, insert one, follow them.
//!
//! The messages are those of `linux/netfilter/nfnetlink_conntrack.h`. The kernel answers for the network namespace of the socket.

use std::net::SocketAddr;

use crate::error::{Error, Refusal};
use crate::message::flags;
use crate::netfilter::{self, subsystem};
use crate::socket::{DumpEnd, Protocol, Request, Socket};

mod codec;
mod filter;
mod flow;
mod monitor;

pub use filter::{Filter, TupleFilter};
pub use flow::{Flow, Status, TcpState, Transport, Tuple};
pub use monitor::{FlowEvent, Monitor};

/// Operations, `IPCTNL_MSG_CT_*`.
mod operation {
    pub(super) const NEW: u8 = 0;
    pub(super) const GET: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const GET_STATS: u8 = 5;
}

/// `CTA_STATS_GLOBAL_ENTRIES`.
const STATS_ENTRIES: u16 = 1;

/// What a dump saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Dump {
    /// Whether all flows were seen.
    pub end: DumpEnd,
    /// Flows that the kernel sent, in all attempts.
    pub received: u64,
    /// Those of them that matched the filter and were handed out.
    pub matched: u64,
}

/// What became of flows that were to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Deleted {
    /// Flows that are gone because of us.
    pub deleted: usize,
    /// Flows that were gone before.
    pub gone: usize,
    /// Flows that the kernel did not delete.
    pub refused: Vec<Refusal>,
}

/// What became of flows that were to be inserted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Inserted {
    /// Flows that are there because of us.
    pub inserted: usize,
    /// Flows that were not inserted because some with the same addresses are there.
    pub there: usize,
    /// Flows that the kernel did not take.
    pub refused: Vec<Refusal>,
}

/// The connection tracking table of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    kernel_filter: bool,
}

impl Conntrack {
    /// Opens the table of the calling thread's network namespace. Needs `CAP_NET_ADMIN` there.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)?, kernel_filter: true })
    }

    /// Leaves all filtering but that by family to user space.
    ///
    /// The results are the same; kernels before 5.8 are treated like this without being asked.
    pub fn filter_in_user_space(&mut self) {
        self.kernel_filter = false;
    }

    /// Hands every flow that matches to `each`, as it comes.
    ///
    /// The table lives on meanwhile: a flow may come twice, and one that began or ended during the dump may come or not.
    pub fn dump(&mut self, filter: &Filter, mut each: impl FnMut(&Flow)) -> Result<Dump, Error> {
        if self.kernel_filter {
            let result = self.dump_with(filter, true, &mut each);
            match &result {
                // The kernel knows the attribute and not the flags, before any flow was sent.
                Err(Error::Refused(refusal)) if filter::is_unknown(refusal.errno) => {
                    self.kernel_filter = false;
                }
                _ => return result,
            }
        }
        self.dump_with(filter, false, &mut each)
    }

    /// Deletes one flow. `false`: it was gone before, or another one with the same addresses had taken its place.
    pub fn delete(&mut self, flow: &Flow) -> Result<bool, Error> {
        let object = format_args!("delete conntrack flow {flow}");
        let request = request(operation::DELETE, 0, &object);
        match self.socket.acknowledged(request, |writer| codec::write_key(writer, flow)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes many flows with few system calls. A refusal stops none of the others.
    pub fn delete_all(&mut self, flows: &[Flow]) -> Result<Deleted, Error> {
        let mut result = Deleted::default();
        let request = request(operation::DELETE, 0, &"delete conntrack flow");
        self.socket.pipeline(
            request,
            flows,
            |flow, writer| codec::write_key(writer, flow),
            |_, refusal| match refusal {
                None => result.deleted += 1,
                Some(refusal) if refusal.errno == crate::Errno::ENOENT => result.gone += 1,
                Some(refusal) => result.refused.push(refusal),
            },
        )?;
        Ok(result)
    }

    /// Inserts flows as they are described, with their reply tuple and timeout; the id is the kernel's choice.
    ///
    /// For tests and for handing over state. The first refusal is the error; the others are inserted all the same.
    pub fn insert(&mut self, flows: &[Flow]) -> Result<(), Error> {
        let mut refused = None;
        let flags = flags::CREATE | flags::EXCLUSIVE;
        let request = request(operation::NEW, flags, &"insert conntrack flow");
        self.socket.pipeline(request, flows, |flow, writer| codec::write_flow(writer, flow), {
            let refused = &mut refused;
            move |_, refusal| {
                if refused.is_none() {
                    *refused = refusal;
                }
            }
        })?;
        refused.map_or(Ok(()), |refusal| Err(Error::Refused(refusal)))
    }

    /// Inserts flows whose packets go to `to` instead, and whose answers seem to come from where the client sent to.
    ///
    /// Their reply tuples are the kernel's choice, and their status has to have [`Status::CONFIRMED`]. A refusal stops none of the others.
    pub fn insert_redirected(&mut self, flows: &[Flow], to: SocketAddr) -> Result<Inserted, Error> {
        let plain: Vec<Flow> = flows
            .iter()
            .map(|flow| Flow { reply: Flow::new(flow.original).reply, ..*flow })
            .collect();
        let mut result = Inserted::default();
        let flags = flags::CREATE | flags::EXCLUSIVE;
        let request = request(operation::NEW, flags, &"insert redirected conntrack flow");
        self.socket.pipeline(
            request,
            &plain,
            |flow, writer| codec::write_redirected(writer, flow, to),
            |_, refusal| match refusal {
                None => result.inserted += 1,
                Some(refusal) if refusal.errno == crate::Errno::EEXIST => result.there += 1,
                Some(refusal) => result.refused.push(refusal),
            },
        )?;
        Ok(result)
    }

    /// Number of flows in the table, of all families and protocols.
    pub fn count(&mut self) -> Result<u32, Error> {
        let object = "count conntrack flows";
        let mut count = None;
        self.socket.request(
            request(operation::GET_STATS, 0, &object),
            |writer| netfilter::header(writer, 0, 0),
            |message| {
                let entries = message.attributes(netfilter::HEADER_LEN)?.find(STATS_ENTRIES)?;
                count = entries.map(|entries| entries.u32_be()).transpose()?;
                Ok(())
            },
        )?;
        count.ok_or_else(|| Error::Malformed {
            object: object.to_owned(),
            malformed: crate::attr::Malformed::Missing { what: "the number of entries" },
        })
    }

    fn dump_with(
        &mut self,
        filter: &Filter,
        in_kernel: bool,
        each: &mut impl FnMut(&Flow),
    ) -> Result<Dump, Error> {
        let (mut received, mut matched) = (0, 0);
        let object = format_args!("list {} conntrack flows", filter.family);
        let end = self.socket.dump(
            request(operation::GET, 0, &object),
            |writer| codec::write_filter(writer, filter, in_kernel),
            |message| {
                received += 1;
                let flow = codec::read_flow(message)?;
                // Also after filtering in the kernel: one before 5.8 ignores what it does not know.
                if filter.matches(&flow) {
                    matched += 1;
                    each(&flow);
                }
                Ok(())
            },
        )?;
        Ok(Dump { end, received, matched })
    }
}

fn request<'a>(operation: u8, flags: u16, object: &'a (dyn std::fmt::Display + 'a)) -> Request<'a> {
    Request { kind: netfilter::kind(subsystem::CONNTRACK, operation), flags, object }
}

/// Reads a message in every way of this module.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(message: &crate::message::Message<'_>) {
    std::hint::black_box(codec::read_flow(message).is_ok());
    std::hint::black_box(monitor::read(message).is_ok());
}
