//! What a full sync writes although it seems right: chains for which the kernel refused what was to be written, again and again.

use kube_proxy_core::{Refusal, Repair, Scope, SyncError};
use kube_proxy_xtables::RestoreError;

use crate::actual::Actual;
use crate::layout::Table;
use crate::restore::Batch;

/// The kind of object that is refused.
const CHAIN: &str = "chain";

/// Chains to write again. Stale ones are emptied and not deleted: that may be what is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// None: what is there and right stays.
    Nothing,
    /// One; if it is the kernel's, our hooks in it.
    Chain(Table, String),
    /// All that are ours, and all hooks.
    All,
}

impl Rewrite {
    /// What a sync of this scope asks for.
    pub(crate) fn of(scope: Scope<'_>) -> Self {
        match scope {
            Scope::Full | Scope::Partial(_) => Self::Nothing,
            Scope::Repair(Repair::Object(refusal)) => Self::object(refusal).unwrap_or(Self::All),
            Scope::Repair(_) => Self::All,
        }
    }

    fn object(refusal: &Refusal) -> Option<Self> {
        let (table, chain) = refusal.name.split_once(' ').filter(|_| refusal.kind == CHAIN)?;
        let table = Table::ALL.into_iter().find(|known| known.name() == table)?;
        Some(Self::Chain(table, chain.to_owned()))
    }

    /// Whether this chain is one of them.
    pub(crate) fn has(&self, table: Table, chain: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Chain(of, name) => *of == table && name == chain,
            Self::All => true,
        }
    }

    /// Forgets what these chains hold, so that they are written whatever it is.
    pub(crate) fn forget(&self, table: Table, existing: &mut Actual) {
        existing.held.retain(|chain, _| !self.has(table, chain.as_str()));
    }
}

/// The error of a restore, with the chain that the refused line is about.
pub(crate) fn sync_error(failure: RestoreError, batch: &Batch) -> SyncError {
    let object = failure.line.and_then(|line| batch.chain_of_line(line));
    match (failure.error, object) {
        (SyncError::Refused(message), Some((table, chain))) => {
            let name = format!("{} {chain}", table.name());
            // Programs say what is wrong in words.
            SyncError::RefusedObject { message, refusal: Refusal { kind: CHAIN, name, errno: 0 } }
        }
        (error, _) => error,
    }
}
