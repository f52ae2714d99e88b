//! The backend: from snapshots to transactions.

use async_trait::async_trait;
use kube_proxy_core::{
    Changes, Count, ProxyBackend, Scope, Snapshot, SyncError, SyncReport, Traffic, Waker,
};
use kube_proxy_netlink::nf_tables::{NfTables, Transaction};
use kube_proxy_netlink::writer::TooLong;
use kube_proxy_netlink::{Errno, Error};

use crate::chain::Chain;
use crate::difference::Difference;
use crate::existing::{Existing, Keep, Repair};
use crate::layout::{CHAINS, FLOWTABLE, TABLE};
use crate::remove::remove_table;
use crate::state::State;
use crate::takeover::Session;
use crate::traffic::{Counters, Totals, carried_over};
use crate::verify::{Counts, Expected};
use crate::watch::{Heard, Watch};
use crate::{Config, affinity, encode, takeover};

mod fast_path;

use fast_path::FastPath;

/// How often a full sync reads the table again because somebody else changed the ruleset meanwhile.
const ATTEMPTS: usize = 8;

/// From so many elements in one transaction on, nobody listens to it: the kernel would tell each of them.
const QUIET: usize = 5_000;

/// The nftables mode for one family.
#[derive(Debug)]
pub struct NftablesBackend {
    config: Config,
    netlink: NfTables,
    transaction: Transaction,
    /// What is on the node; `None` while that is not known.
    synced: Option<Synced>,
    /// Chains that nothing leads to, and that the kernel still held on to.
    stale_chains: Vec<Chain>,
    /// Tells of changes by others; without it there is only the number of the generation.
    watch: Option<Watch>,
    fast_path: Option<FastPath>,
    last: LastSync,
    traffic: Totals,
    looks: usize,
}

/// What was sent to the kernel in the last sync, over all its transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastSync {
    /// Transactions.
    pub transactions: usize,
    /// Messages in them.
    pub messages: usize,
    /// Elements added and deleted.
    pub elements: usize,
    /// Chains made or given other rules.
    pub chains: usize,
    /// Bytes.
    pub bytes: usize,
}

#[derive(Debug)]
struct Synced {
    state: State,
    counts: Counts,
    /// The generation of the ruleset as we left it; another one is somebody else's doing.
    generation: u32,
}

impl NftablesBackend {
    /// A backend for the network namespace of this thread.
    ///
    /// Tries on the kernel whether it has all that is needed; [`SyncError::Unsupported`] says in one sentence what is missing.
    pub fn new(config: Config) -> Result<Self, SyncError> {
        let missing = |error: Error| {
            SyncError::Unsupported(format!(
                "nftables mode needs Linux 5.10 or newer with nf_tables, its NAT, fib and numgen \
                 modules, and CAP_NET_ADMIN: {error}"
            ))
        };
        let mut netlink = NfTables::open(config.netlink_family()).map_err(missing)?;
        if let Err(error) = probe(&mut netlink, &config) {
            let without = Config { offload_after: None, ..config.clone() };
            if config.offload_after.is_some() && probe(&mut netlink, &without).is_ok() {
                return Err(SyncError::Unsupported(format!(
                    "the flowtable fast path was asked for and needs the kernel modules \
                     nf_flow_table and nft_flow_offload; without a threshold nftables mode works: {error}"
                )));
            }
            return Err(missing(error));
        }
        let fast_path = FastPath::new(&config).map_err(missing)?;
        let transaction = Transaction::new(config.netlink_family(), TABLE);
        Ok(Self {
            config,
            netlink,
            transaction,
            synced: None,
            stale_chains: Vec::new(),
            watch: None,
            fast_path,
            last: LastSync::default(),
            traffic: Totals::default(),
            looks: 0,
        })
    }

    /// What the last sync sent to the kernel.
    pub fn last_sync(&self) -> LastSync {
        self.last
    }

    /// How often the table was looked at to see whether it is as it was left.
    pub fn looks(&self) -> usize {
        self.looks
    }

    /// Reads the table back and sends what differs, again if somebody else came in between.
    fn full(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.synced = None;
        self.stale_chains.clear();
        for _ in 1..ATTEMPTS {
            match self.try_full(snapshot) {
                Err(error) if error.is_stale() || error.errno() == Some(Errno::EINTR) => {
                    tracing::debug!(%error, "the ruleset changed while it was read; reading again");
                }
                result => return result,
            }
        }
        self.try_full(snapshot)
    }

    fn try_full(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        // What was heard before the table is read says nothing about what is read.
        self.watch.as_ref().map(Watch::take);
        let generation = self.netlink.generation()?;
        let existing = Existing::read(&mut self.netlink, &self.config)?;
        let has_sessions = matches!(&existing, Existing::Table(table) if table.sets.has_sessions);
        let old_sessions = match &existing {
            Existing::OtherLayout => {
                tracing::info!(table = TABLE, "replacing a table of another layout");
                takeover::read(&mut self.netlink, self.config.family)?
            }
            Existing::Nothing | Existing::Table(_) => Vec::new(),
        };
        let new = !matches!(&existing, Existing::Table(_));
        let mut state = State::build(snapshot, &existing, &self.config);
        let repair = existing.repair(&mut state, &self.config);
        let chains = repair.static_chains.len() + repair.difference.new_chains.len();
        let sessions = takeover::carry_over(&old_sessions, &state);
        let counters = carried_over(&mut self.netlink, &repair.difference)?;
        self.encode_full(generation, new, &repair, &sessions, &counters).map_err(too_long)?;
        let counts = repair.counts;
        let mut synced = Synced { state, counts, generation };
        self.commit(&mut synced)?;
        self.traffic.written(&repair.difference, &counters);
        self.last.chains = chains;
        if has_sessions {
            self.end_sessions(&mut synced)?;
        }
        self.delete_chains(&mut synced, repair.difference.stale_chains)?;
        self.follow_links(&mut synced, true)?;
        // The memory for a whole table is not needed again.
        self.transaction = Transaction::new(self.config.netlink_family(), TABLE);
        self.synced = Some(synced);
        Ok(())
    }

    fn encode_full(
        &mut self,
        generation: u32,
        new: bool,
        repair: &Repair,
        sessions: &[Session],
        counters: &Counters,
    ) -> Result<(), TooLong> {
        self.transaction.clear(Some(generation));
        if new {
            encode::new_table(&mut self.transaction, self.config.family)?;
        }
        if repair.flowtable == Keep::Make {
            self.transaction.add_flowtable(FLOWTABLE)?;
        }
        let static_chains = repair.static_chains.iter().copied();
        encode::static_rules(&mut self.transaction, static_chains, &self.config)?;
        if repair.flowtable == Keep::Delete {
            self.transaction.delete_flowtable(FLOWTABLE)?;
        }
        encode::changes(&mut self.transaction, &repair.difference, &self.config, counters)?;
        encode::add_sessions(&mut self.transaction, sessions)
    }

    /// Sends what changed. On an error nothing is taken for granted any more.
    fn partial(
        &mut self,
        mut synced: Synced,
        snapshot: &Snapshot,
        changes: &Changes,
    ) -> Result<(), Error> {
        let (difference, sessions) = synced.state.update(snapshot, changes, &self.config);
        if !difference.is_empty() {
            synced.counts.change(&difference);
            let counters = carried_over(&mut self.netlink, &difference)?;
            self.transaction.clear(None);
            encode::changes(&mut self.transaction, &difference, &self.config, &counters)
                .map_err(too_long)?;
            self.commit(&mut synced)?;
            self.traffic.written(&difference, &counters);
            self.last.chains = difference.new_chains.len();
        }
        if sessions.any {
            self.end_sessions(&mut synced)?;
        }
        let Difference { new_chains, mut stale_chains, .. } = difference;
        let left = std::mem::take(&mut self.stale_chains);
        stale_chains.extend(left.into_iter().filter(|chain| !new_chains.contains(chain)));
        self.delete_chains(&mut synced, stale_chains)?;
        self.synced = Some(synced);
        Ok(())
    }

    fn commit(&mut self, synced: &mut Synced) -> Result<(), Error> {
        if self.transaction.is_empty() {
            return Ok(());
        }
        let large = self.transaction.elements() >= QUIET;
        let quiet = self.watch.as_ref().filter(|_| large).map(Watch::pause);
        let result = self.netlink.commit(&mut self.transaction);
        // The kernel counts every transaction; 0 it leaves out.
        synced.generation = synced.generation.wrapping_add(1).max(1);
        if let Some(quiet) = quiet {
            quiet.end(|| self.netlink.generation().ok() == Some(synced.generation));
        }
        result?;
        self.last.transactions += 1;
        self.last.messages += self.transaction.len();
        self.last.elements += self.transaction.elements();
        self.last.bytes += self.transaction.size();
        Ok(())
    }

    /// Ends sessions whose endpoint is gone. One may end by itself before we get to it.
    fn end_sessions(&mut self, synced: &mut Synced) -> Result<(), Error> {
        let family = self.config.family;
        let ended = affinity::ended(&mut self.netlink, family, &synced.state)?;
        if ended.is_empty() {
            return Ok(());
        }
        self.transaction.clear(None);
        encode::delete_sessions(&mut self.transaction, &ended).map_err(too_long)?;
        match self.commit(synced) {
            Err(error) if error.is_not_found() => {}
            result => return result,
        }
        for key in ended {
            self.transaction.clear(None);
            encode::delete_sessions(&mut self.transaction, &[key]).map_err(too_long)?;
            match self.commit(synced) {
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Deletes chains that nothing leads to, in a transaction of their own: kernels before 6.2 count a reference
    /// until the transaction that drops it is over, and some even a little longer. What is left is tried again next time.
    fn delete_chains(&mut self, synced: &mut Synced, chains: Vec<Chain>) -> Result<(), Error> {
        if chains.is_empty() {
            return Ok(());
        }
        self.transaction.clear(None);
        encode::delete_chains(&mut self.transaction, &chains).map_err(too_long)?;
        match self.commit(synced) {
            Err(error) if error.is_busy() => {
                tracing::debug!(%error, "chains are still in use; they are deleted later");
                self.stale_chains = chains;
                Ok(())
            }
            result => result,
        }
    }

    fn report(&self) -> SyncReport {
        let Some(synced) = &self.synced else { return SyncReport::default() };
        let total = synced.counts.elements();
        let chains = synced.state.chains().len() + CHAINS.len();
        SyncReport {
            counts: vec![
                Count { kind: "elements", written: self.last.elements, total },
                Count { kind: "chains", written: self.last.chains, total: chains },
            ],
            refused: 0,
        }
    }

    /// Whether the table is as we left it, although the ruleset changed.
    fn verify(&mut self) -> Result<bool, Error> {
        let Some(mut synced) = self.synced.take() else { return Ok(false) };
        let result = match self.is_intact(&mut synced) {
            Ok(true) => self.follow_links(&mut synced, false).map(|()| true),
            other => other,
        };
        self.synced = Some(synced);
        result
    }

    fn is_intact(&mut self, synced: &mut Synced) -> Result<bool, Error> {
        let heard = self.watch.as_ref().and_then(Watch::take);
        match heard {
            Some(Heard::Nothing) => return Ok(true),
            Some(Heard::Damage) => return Ok(false),
            Some(Heard::NotAll) | None => {}
        }
        let generation = self.netlink.generation()?;
        if generation == synced.generation {
            return Ok(true);
        }
        self.looks += 1;
        let expected = Expected {
            config: &self.config,
            state: &synced.state,
            counts: &synced.counts,
            left_over: &self.stale_chains,
            sure: heard.is_some(),
        };
        let intact = expected.is_there(&mut self.netlink)?;
        if intact {
            synced.generation = generation;
        }
        Ok(intact)
    }
}

#[async_trait]
impl ProxyBackend for NftablesBackend {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        self.last = LastSync::default();
        let result = match (scope, self.synced.take()) {
            (Scope::Partial(changes), Some(synced)) => self.partial(synced, snapshot, changes),
            _ => self.full(snapshot),
        };
        result.map_err(|error| sync_error(&error))?;
        Ok(self.report())
    }

    /// With a [waker](ProxyBackend::set_waker): whether the kernel told of a change of the table that is not ours.
    ///
    /// Where the kernel cannot tell, or not all of it, reads the number of the ruleset's generation; only if somebody else changed
    /// something, looks at the table, at all its rules and (from Linux 6.17 on) at the sizes of its sets.
    async fn intact(&mut self) -> Result<bool, SyncError> {
        self.verify().map_err(|error| sync_error(&error))
    }

    /// Listens to changes of the ruleset, in the network namespace of this thread, and wakes when somebody else touches the table.
    fn set_waker(&mut self, waker: Waker) {
        let family = self.config.family;
        if let Some(fast_path) = &mut self.fast_path {
            fast_path.set_waker(&self.config, waker.clone());
        }
        let watch = self.netlink.port().and_then(|port| Watch::start(family, port, waker));
        match watch {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => tracing::warn!(
                %family,
                "changes of the nftables ruleset by others are only noticed every sync period: {error}"
            ),
        }
    }

    /// Connections of each service port in the order of names; empty before the first sync.
    ///
    /// The kernel counts at the frontends, from the moment when a frontend is written. Where it is written anew, because the number of its
    /// endpoints or its policy changed, it counts on.
    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let Some(synced) = &self.synced else { return Ok(Vec::new()) };
        let family = self.config.family;
        self.traffic
            .read(&mut self.netlink, family, &synced.state)
            .map_err(|error| sync_error(&error))
    }

    async fn cleanup(&mut self) -> Result<(), SyncError> {
        self.synced = None;
        self.stale_chains.clear();
        let family = self.config.netlink_family();
        let removed = remove_table(&mut self.netlink, family);
        removed.map(|_| ()).map_err(|error| sync_error(&error))
    }
}

/// Makes all of the skeleton, and each kind of chain, and deletes it in the same transaction.
fn probe(netlink: &mut NfTables, config: &Config) -> Result<(), Error> {
    let mut transaction = Transaction::new(config.netlink_family(), "kube-proxy-probe");
    encode::probe(&mut transaction, config).map_err(too_long)?;
    netlink.commit(&mut transaction)
}

pub(crate) fn too_long(too_long: TooLong) -> Error {
    Error::TooLong { object: format!("transaction for table {TABLE}"), too_long }
}

pub(crate) fn sync_error(error: &Error) -> SyncError {
    if error.is_unsupported() {
        SyncError::Unsupported(error.to_string())
    } else if error.is_stale() || error.is_busy() || error.errno() == Some(Errno::EINTR) {
        SyncError::Busy(format!("somebody else is changing the nftables ruleset: {error}"))
    } else if let (None, Some(errno)) = (error.refusals().next(), error.errno()) {
        SyncError::Io { what: error.to_string(), source: errno.into() }
    } else {
        SyncError::Refused(error.to_string())
    }
}
