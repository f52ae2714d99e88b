//! The way of traced packets through the rulesets.

use std::borrow::Cow;
use std::time::Duration;

use super::constants::{operation, trace};
use super::verdict::{Verdict, read_verdict};
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::netfilter::{self, subsystem};
use crate::socket::{Protocol, Socket};
use crate::wait::{StopHandle, Waiter};

/// `NFNLGRP_NFTRACE`.
const GROUP: u32 = 9;
const OBJECT: &str = "trace packets";

/// What decided at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// A rule, by its handle.
    Rule(u64),
    /// The end of a chain, which no rule decided.
    End,
    /// The policy of a base chain.
    Policy,
}

/// One step of a packet that a rule with [`MetaKey::Trace`](super::MetaKey::Trace) marked.
///
/// Rules that do not match are no step. The first step in each base chain has the headers, as they are then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The same for all steps of a packet; two packets may have the same after a while.
    pub id: u32,
    /// The family of the base chain; [`Family::number`](crate::Family::number), or that of `inet` and others.
    pub family: u8,
    /// The table.
    pub table: Cow<'a, str>,
    /// The chain.
    pub chain: Cow<'a, str>,
    /// What decided.
    pub decision: Decision,
    /// What was decided.
    pub verdict: Verdict<'a>,
    /// The IP header, and what follows of it in its fixed part.
    pub network: Option<&'a [u8]>,
    /// The beginning of the transport header.
    pub transport: Option<&'a [u8]>,
    /// The packet mark; none is 0.
    pub mark: u32,
    /// The index of the interface the packet came in by.
    pub input: Option<u32>,
    /// The index of the interface it leaves by.
    pub output: Option<u32>,
}

/// Follows traced packets of the network namespace of the thread that opened it. Needs `CAP_NET_ADMIN` there.
#[derive(Debug)]
pub struct Tracer {
    socket: Socket,
    waiter: Waiter,
}

impl Tracer {
    /// Listens from now on. The handle ends a wait from another thread.
    pub fn open() -> Result<(Self, StopHandle), Error> {
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.join(GROUP)?;
        let (waiter, stop) = Waiter::new(&socket, OBJECT)?;
        Ok((Self { socket, waiter }, stop))
    }

    /// Waits until there are steps, the timeout ends (`None` is never), or the handle stops it: then `false`.
    ///
    /// Each step goes to `each`, in order. [`Error::Lost`] says that some are missing; the next call continues after them.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(&Step<'_>),
    ) -> Result<bool, Error> {
        let Self { socket, waiter } = self;
        waiter.wait_until(timeout, || {
            let mut any = false;
            socket.notifications(&OBJECT, |message| {
                if let Some(step) = Step::read(message)? {
                    any = true;
                    each(&step);
                }
                Ok(())
            })?;
            Ok(any)
        })
    }
}

impl<'a> Step<'a> {
    /// `None` for messages that are not about a traced packet.
    pub(super) fn read(message: &Message<'a>) -> Result<Option<Self>, Malformed> {
        if message.kind != netfilter::kind(subsystem::NF_TABLES, operation::TRACE) {
            return Ok(None);
        }
        let (family, _) = netfilter::read_header(message)?;
        let mut read = Raw { family, ..Raw::default() };
        for attribute in message.attributes(netfilter::HEADER_LEN)? {
            let attribute = attribute?;
            match attribute.kind {
                trace::TABLE => read.table = Some(attribute.text()),
                trace::CHAIN => read.chain = Some(attribute.text()),
                trace::RULE_HANDLE => read.handle = Some(attribute.u64_be()?),
                trace::TYPE => read.kind = Some(attribute.u32_be()?),
                trace::VERDICT => read.verdict = Some(read_verdict(&attribute)?),
                trace::ID => read.id = Some(attribute.u32_be()?),
                trace::NETWORK_HEADER => read.network = Some(attribute.value),
                trace::TRANSPORT_HEADER => read.transport = Some(attribute.value),
                trace::INPUT_INTERFACE => read.input = Some(attribute.u32_be()?),
                trace::OUTPUT_INTERFACE => read.output = Some(attribute.u32_be()?),
                trace::MARK => read.mark = attribute.u32_be()?,
                trace::PROTOCOL_FAMILY => {
                    read.family = u8::try_from(attribute.u32_be()?).unwrap_or(family);
                }
                trace::POLICY => read.policy = Some(attribute.u32_be()?),
                _ => {}
            }
        }
        read.finish().map(Some)
    }
}

/// What a message has, before it is known whether it has enough.
#[derive(Default)]
struct Raw<'a> {
    id: Option<u32>,
    family: u8,
    table: Option<Cow<'a, str>>,
    chain: Option<Cow<'a, str>>,
    handle: Option<u64>,
    kind: Option<u32>,
    verdict: Option<Verdict<'a>>,
    policy: Option<u32>,
    network: Option<&'a [u8]>,
    transport: Option<&'a [u8]>,
    mark: u32,
    input: Option<u32>,
    output: Option<u32>,
}

impl<'a> Raw<'a> {
    fn finish(self) -> Result<Step<'a>, Malformed> {
        let missing = |what| Malformed::Missing { what };
        let (decision, verdict) = match self.kind {
            Some(trace::TYPE_RULE) => {
                let verdict = self.verdict.ok_or(missing("the verdict of a rule"))?;
                // The mark behind the last rule of a chain is a rule without a handle.
                (self.handle.map_or(Decision::End, Decision::Rule), verdict)
            }
            Some(trace::TYPE_RETURN) => (Decision::End, self.verdict.unwrap_or(Verdict::Continue)),
            Some(trace::TYPE_POLICY) => {
                let policy = match self.policy.ok_or(missing("the policy of a chain"))? {
                    0 => Verdict::Drop,
                    1 => Verdict::Accept,
                    other => Verdict::Other(other),
                };
                (Decision::Policy, policy)
            }
            _ => return Err(missing("the type of a step")),
        };
        Ok(Step {
            id: self.id.ok_or(missing("the id of a packet"))?,
            family: self.family,
            table: self.table.ok_or(missing("the name of a table"))?,
            chain: self.chain.ok_or(missing("the name of a chain"))?,
            decision,
            verdict,
            network: self.network,
            transport: self.transport,
            mark: self.mark,
            input: self.input,
            output: self.output,
        })
    }
}

#[cfg(test)]
mod tests;
