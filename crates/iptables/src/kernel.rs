//! What the backend needs of the kernel, and the programs that have it.

use std::fs;
use std::io::ErrorKind;

use kube_proxy_core::SyncError;
use kube_proxy_xtables::{Check, Programs, RestoreError, SHARED_FIREWALL, Variant};

use crate::layout::{Table, is_ours};
use crate::restore::Batch;
use crate::sessions::{LISTS, Ticks};
use crate::{counters, localnet};

/// What the backend needs of the kernel.
pub(crate) trait Kernel: Send {
    /// Hands over each line of `iptables-save` for one table.
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError>;

    /// Whether a table has this chain; not if it cannot be read.
    fn has_chain(&self, table: &str, chain: &str) -> bool;

    /// Whether a table may hold anything of this mode, as far as the kernel says without any program.
    fn may_hold_ours(&self, table: &str) -> bool;

    /// Applies a batch without touching anything it does not name.
    fn restore(&self, batch: &Batch) -> Result<(), RestoreError>;

    /// Whether all of these are there.
    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError>;

    /// The rules of each of these chains, without the chain; `None` for one that is not there.
    fn list_chains(
        &self,
        table: &str,
        chains: &[&str],
    ) -> Result<Vec<Option<Vec<String>>>, SyncError>;

    /// Whether each of these rules, with its chain, is there.
    fn find_rules(&self, table: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError>;

    /// Has the kernel route packets to and from loopback addresses.
    fn route_localnet(&self) -> Result<(), SyncError>;

    /// Has it do so no more.
    fn unroute_localnet(&self) -> Result<(), SyncError>;

    /// Sees to it that the objects are there in which rules count packets.
    fn create_counters(&self) -> Result<(), SyncError>;

    /// The clients that a list of `xt_recent` remembers, as its file shows them; `None` if there is no such list.
    fn clients(&self, list: &str) -> Result<Option<String>, SyncError>;

    /// The kernel's counter of ticks.
    fn ticks(&self) -> Result<Ticks, SyncError>;
}

impl Kernel for Programs {
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.each_line(table, each)
    }

    fn has_chain(&self, table: &str, chain: &str) -> bool {
        Programs::has_chain(self, table, |name| name == chain)
    }

    fn may_hold_ours(&self, table: &str) -> bool {
        self.may_have_chain(table, |chain| {
            // The rule against martians is in a chain of the kubelet.
            is_ours(table, chain) || (table == Table::Filter.name() && chain == SHARED_FIREWALL)
        })
    }

    fn restore(&self, batch: &Batch) -> Result<(), RestoreError> {
        if self.variant() == Variant::Nft
            && let Some(pieces) = batch.pieces_with_all_chains()
        {
            match self.restore_text(&pieces) {
                Ok(()) => return Ok(()),
                // It may be the listing that failed, of a table with rules of `nft`; and lines count in the plain input.
                Err(failure) => tracing::debug!("{failure}; trying again without a listing"),
            }
        }
        self.restore_text(&batch.pieces())
    }

    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError> {
        self.hold(checks)
    }

    fn list_chains(
        &self,
        table: &str,
        chains: &[&str],
    ) -> Result<Vec<Option<Vec<String>>>, SyncError> {
        Programs::list_chains(self, table, chains)
    }

    fn find_rules(&self, table: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError> {
        Programs::find_rules(self, table, rules)
    }

    fn route_localnet(&self) -> Result<(), SyncError> {
        localnet::enable()
    }

    fn unroute_localnet(&self) -> Result<(), SyncError> {
        localnet::disable()
    }

    fn create_counters(&self) -> Result<(), SyncError> {
        counters::create()
    }

    fn clients(&self, list: &str) -> Result<Option<String>, SyncError> {
        let path = format!("{LISTS}/{list}");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SyncError::Io {
                what: format!("reading {path}, the clients of an endpoint"),
                source,
            }),
        }
    }

    fn ticks(&self) -> Result<Ticks, SyncError> {
        Ticks::read()
    }
}
