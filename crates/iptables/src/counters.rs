//! Packets that are counted: the kernel's accounting objects (nfacct), and whether rules can count in them.
//!
//! Not every kernel has the objects, and not every iptables the match. Then the same rules stand there without the match.
//! The names are those of the Go kube-proxy. Both families count in the same objects, which outlive the rules and this process.

use std::thread;
use std::time::Duration;

use kube_proxy_core::SyncError;
use kube_proxy_netlink::Error;
use kube_proxy_netlink::accounting::{self, Accounting};

use crate::IptablesBackend;
use crate::layout::{Table, canary};
use crate::restore::{Batch, Part};

/// Forwarded packets that conntrack found invalid.
const INVALID: &str = "ct_state_invalid_dropped_pkts";

/// Packets to a NodePort on loopback, of which `nat` sees the first of each connection.
const LOCALHOST: &str = "localhost_nps_accepted_pkts";

const ALL: [&str; 2] = [INVALID, LOCALHOST];

/// How often, and how long apart, an object is tried to be deleted that is in use: iptables-nft takes rules away at once,
/// but the kernel gives back what they used a moment later.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// How many packets were counted on this node, by any kube-proxy that ran here; `None` where there is no such object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Packets dropped because conntrack found them invalid.
    pub invalid_dropped: Option<u64>,
    /// Connections accepted at NodePorts on loopback addresses; for UDP, flows.
    pub localhost_accepted: Option<u64>,
}

impl PacketCounts {
    /// Reads the objects of the calling thread's network namespace. `None` on a kernel that does not know them.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn read() -> Result<Option<Self>, Error> {
        let mut objects = Accounting::open()?;
        let mut read = |name| Ok(objects.get(name)?.map(|counter| counter.packets));
        let mut read_all =
            || Ok(Self { invalid_dropped: read(INVALID)?, localhost_accepted: read(LOCALHOST)? });
        match read_all() {
            Err(error) if accounting::is_unknown(&error) => Ok(None),
            result => result.map(Some),
        }
    }
}

/// The words that make a rule count in one of them.
const COUNT_INVALID: &str = "-m nfacct --nfacct-name ct_state_invalid_dropped_pkts";
const COUNT_LOCALHOST: &str = "-m nfacct --nfacct-name localhost_nps_accepted_pkts";

/// Whether rules count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counting {
    pub(crate) on: bool,
}

impl Counting {
    /// The words that count invalid packets, if they are counted.
    pub(crate) fn invalid(self) -> Option<&'static str> {
        self.on.then_some(COUNT_INVALID)
    }

    /// The words that count packets to NodePorts on loopback, if they are counted.
    pub(crate) fn localhost(self) -> Option<&'static str> {
        self.on.then_some(COUNT_LOCALHOST)
    }
}

/// Makes the objects that are missing.
pub(crate) fn create() -> Result<(), SyncError> {
    let refused = |error: Error| SyncError::Refused(error.to_string());
    let mut objects = Accounting::open().map_err(refused)?;
    for name in ALL {
        match objects.create(name) {
            Err(error) if !error.is_exists() => return Err(refused(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Deletes the objects that no rule uses; whether there were any.
pub(crate) fn delete_unused() -> bool {
    let Ok(mut objects) = Accounting::open() else {
        return false;
    };
    let mut any = false;
    let mut attempts = ATTEMPTS;
    for name in ALL {
        loop {
            match objects.delete(name) {
                Ok(()) => any = true,
                Err(error) if error.is_busy() && attempts > 1 => {
                    attempts -= 1;
                    thread::sleep(PAUSE);
                    continue;
                }
                // Not there, in use by the other family or by others, or a kernel without them.
                Err(error) => tracing::debug!("{error}"),
            }
            break;
        }
    }
    any
}

impl IptablesBackend {
    /// What the rules that are about to be written can count. Sees to it that the objects are there.
    /// Where rules count already, nothing needs to be tried.
    pub(crate) fn prepare_counting(&mut self, rules_count: bool) -> Counting {
        if self.can_count == Some(false) {
            return Counting::default();
        }
        let tried = |()| if rules_count { Ok(()) } else { self.try_match() };
        match self.kernel.create_counters().and_then(tried) {
            Ok(()) => {
                self.can_count = Some(true);
                Counting { on: true }
            }
            Err(error) => {
                let family = self.options.config.family;
                tracing::debug!(%family, "rules count no packets: {error}");
                if self.can_count.is_none() && matches!(error, SyncError::Refused(_)) {
                    // Not tried again: what is missing, a kernel or a program, does not come while this process runs.
                    self.can_count = Some(false);
                }
                Counting::default()
            }
        }
    }

    /// Writes a rule with the match into a chain that leads nowhere; the sync that follows empties it.
    fn try_match(&self) -> Result<(), SyncError> {
        if self.can_count.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.table(Table::Filter).chain(Part::Targets, canary(), None, |rules| {
            rules.rule().whole(COUNT_LOCALHOST);
        });
        self.kernel.restore(&batch).map_err(|failure| failure.error)
    }
}
