//! The backend: from snapshots to transactions.

use async_trait::async_trait;
use kube_proxy_core::{
    Algorithm, Changes, CheckWaker, Difference, Frontend, FrontendQuery, KernelObject,
    NodePortAddresses, ObjectCount, ProxyBackend, Refused, Scope, Session, SessionKey, Snapshot,
    SyncError, SyncReport, Traffic,
};
use kube_proxy_netlink::nf_tables::{NfTables, Transaction};
use kube_proxy_netlink::writer::TooLong;
use kube_proxy_netlink::{Errno, Error};

use crate::actual::{Actual, Tasks};
use crate::chain::{Chain, Pick};
use crate::compare::compare;
use crate::counts::Counts;
use crate::diff::Diff;
use crate::element::SetId;
use crate::error::{sync_error, too_long};
use crate::layout::{CHAINS, Fixed, TABLE};
use crate::look_up::look_up;
use crate::parts::Parts;
use crate::rebuild::Rebuild;
use crate::refused_attempts::Attempts;
use crate::state::State;
use crate::takeover::OldSession;
use crate::traffic::{Counters, Totals, carried_over};
use crate::verify::Expected;
use crate::watch::{Notification, Watch, WatchGroup};
use crate::{Config, affinity, encode, left_over, takeover};

mod fast_path;
mod gate;

use fast_path::FastPath;
use gate::Gate;

/// How often a full sync reads the table again because another program changed the ruleset meanwhile.
const ATTEMPTS: usize = 8;

/// Smallest number of elements in a transaction for which watches pause.
const LARGE: usize = 5_000;

/// The nftables mode for one family.
#[derive(Debug)]
pub struct NftablesBackend {
    config: Config,
    netlink: NfTables,
    transaction: Transaction,
    gate: Gate,
    /// What is on the node; `None` while that is not known.
    synced: Option<Synced>,
    /// The table as it was read for the first sync, and the generation of the ruleset before.
    ahead: Option<(u32, Actual)>,
    /// Chains that nothing leads to, and that the kernel still held on to.
    stale_chains: Vec<Chain>,
    /// Notices changes by others; without it the generation alone shows that there was one.
    watch: Option<Watch>,
    watch_group: WatchGroup,
    /// What follows the interfaces, once there is a flowtable.
    fast_path: Option<FastPath>,
    waker: Option<CheckWaker>,
    /// A Service asked for the fast path, and the kernel has none.
    lacks_fast_path: bool,
    last: LastSync,
    traffic: Totals,
    attempts: Attempts,
    looks: usize,
    reads: usize,
    /// UDP frontends that full syncs found and removed since the last successful one.
    removed_udp: Vec<Frontend>,
    /// The kernel has hashes of addresses and ports.
    has_hash: bool,
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
    /// The generation of the ruleset as we left it; another one is the work of another program.
    generation: u32,
}

/// What a full sync begins with.
struct Start<'a> {
    /// The generation that was read.
    generation: u32,
    /// The table is made.
    new: bool,
    rebuild: &'a Rebuild,
    /// Chains that lose their rules first.
    emptied: Vec<String>,
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
        // What Services may ask for is looked for when the first one does.
        let parts = Parts {
            counts_dropped: config.count_refused,
            flowtable: config.offload_after.is_some(),
            ..Parts::default()
        };
        if let Err(error) = probe(&mut netlink, &config, parts, Pick::Random) {
            let without = Parts { flowtable: false, ..parts };
            if parts.flowtable && probe(&mut netlink, &config, without, Pick::Random).is_ok() {
                return Err(SyncError::Unsupported(format!(
                    "the flowtable fast path was asked for and needs the kernel modules \
                     nf_flow_table and nft_flow_offload; without a threshold nftables mode works: {error}"
                )));
            }
            return Err(missing(error));
        }
        // The module for it may be missing where all others are there.
        let has_hash = probe(&mut netlink, &config, parts, Pick::SourcePort).is_ok();
        let fast_path = parts.flowtable.then(FastPath::new).transpose().map_err(missing)?;
        let transaction = Transaction::new(config.netlink_family(), TABLE);
        Ok(Self {
            config,
            netlink,
            transaction,
            gate: Gate::default(),
            synced: None,
            ahead: None,
            stale_chains: Vec::new(),
            watch: None,
            watch_group: WatchGroup::default(),
            fast_path,
            waker: None,
            lacks_fast_path: false,
            last: LastSync::default(),
            traffic: Totals::default(),
            attempts: Attempts::default(),
            looks: 0,
            reads: 0,
            removed_udp: Vec::new(),
            has_hash,
        })
    }

    /// Puts the watch of the table into a group, before [`ProxyBackend::set_waker`] starts it.
    #[must_use]
    pub fn in_group(mut self, group: &WatchGroup) -> Self {
        self.watch_group = group.clone();
        self
    }

    /// What the last sync sent to the kernel.
    pub fn last_sync(&self) -> LastSync {
        self.last
    }

    /// How often the table was looked at to see whether it is as it was left.
    pub fn looks(&self) -> usize {
        self.looks
    }

    /// How often all elements of the table were read.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// The table, and the generation of the ruleset from which it is the same.
    fn read(&mut self) -> Result<(u32, Actual), Error> {
        // Notices from before the table is read say nothing about what is read.
        self.watch.as_ref().map(Watch::take);
        let generation = self.netlink.generation()?;
        match self.ahead.take() {
            Some((before, mut existing)) if before == generation => {
                // Packets add sessions without a new generation.
                existing.may_have_sessions();
                return Ok((generation, existing));
            }
            _ => {}
        }
        self.reads += 1;
        Ok((generation, Actual::read(&mut self.netlink, &self.config)?))
    }

    /// The number of the last message to the kernel: each has the next.
    pub fn last_message(&self) -> u32 {
        self.netlink.last_request()
    }

    /// Reads the table back and sends what differs, again if another program came in between.
    fn full(&mut self, snapshot: &Snapshot, rebuild: &Rebuild) -> Result<(), Error> {
        self.synced = None;
        self.stale_chains.clear();
        for _ in 1..ATTEMPTS {
            match self.try_full(snapshot, rebuild) {
                Err(error) if error.is_stale() || error.errno() == Some(Errno::EINTR) => {
                    tracing::debug!(%error, "the ruleset changed while it was read; reading again");
                }
                result => return result,
            }
        }
        self.try_full(snapshot, rebuild)
    }

    fn try_full(&mut self, snapshot: &Snapshot, rebuild: &Rebuild) -> Result<(), Error> {
        self.look_for_fast_path(snapshot.services.values());
        let (generation, existing) = self.read()?;
        let has_sessions = matches!(&existing, Actual::Table(table) if table.sets.has_sessions);
        let mut removed_udp = match &existing {
            Actual::OtherLayout => left_over::of_table(&mut self.netlink, self.config.family)?,
            Actual::Nothing | Actual::Table(_) => Vec::new(),
        };
        let mut state = State::build(snapshot, &existing, &self.config);
        if *rebuild != Rebuild::Nothing
            && self.traffic.read(&mut self.netlink, self.config.family, &state).is_err()
        {
            tracing::debug!("connections since they were last counted are not counted");
        }
        let old_sessions = self.sessions_to_keep(&existing, rebuild)?;
        let emptied = rebuild.emptied(&existing);
        let existing = rebuild.forget(existing);
        let new = !matches!(&existing, Actual::Table(_));
        let repair = existing.repair(&mut state, &self.config);
        let chains = repair.static_chains.len() + repair.diff.new_chains.len();
        let sessions = takeover::carry_over(&old_sessions, &state);
        let counters = carried_over(&mut self.netlink, &repair.diff)?;
        let start = Start { generation, new, rebuild, emptied };
        self.encode_full(&start, &state, &repair, &sessions, &counters).map_err(too_long)?;
        let counts = repair.counts;
        let mut synced = Synced { state, counts, generation };
        self.commit(&mut synced)?;
        if repair.all_elements {
            self.traffic.all_written();
            self.attempts.all_written();
        }
        self.traffic.written(&repair.diff, &counters);
        self.attempts.written(&repair.diff);
        removed_udp.extend(left_over::of_difference(&repair.diff, self.config.family));
        self.removed_udp.append(&mut removed_udp);
        self.last.chains = chains;
        if has_sessions {
            self.end_sessions(&mut synced)?;
        }
        self.delete_chains(&mut synced, repair.diff.stale_chains)?;
        self.follow_links(&mut synced, true)?;
        // The memory for a whole table is not needed again.
        self.transaction = Transaction::new(self.config.netlink_family(), TABLE);
        self.synced = Some(synced);
        Ok(())
    }

    /// The sessions that a table or a set holds which is about to be written again.
    fn sessions_to_keep(
        &mut self,
        existing: &Actual,
        rebuild: &Rebuild,
    ) -> Result<Vec<OldSession>, Error> {
        match existing {
            Actual::Nothing => return Ok(Vec::new()),
            Actual::OtherLayout => {
                tracing::info!(table = TABLE, "replacing a table of another layout");
            }
            Actual::Table(_) if !rebuild.ends_sessions() => return Ok(Vec::new()),
            Actual::Table(_) => {}
        }
        takeover::read(&mut self.netlink, self.config.family)
    }

    fn encode_full(
        &mut self,
        start: &Start<'_>,
        state: &State,
        repair: &Tasks,
        sessions: &[takeover::Session],
        counters: &Counters,
    ) -> Result<(), TooLong> {
        self.transaction.clear(Some(start.generation));
        if start.new {
            encode::new_table(&mut self.transaction, self.config.family)?;
        }
        start.rebuild.encode(&start.emptied, &mut self.transaction, self.config.family)?;
        let (there, wanted) = repair.parts;
        encode::make_parts(&mut self.transaction, there, wanted, self.config.family)?;
        encode::changes(&mut self.transaction, &repair.diff, &self.config, counters)?;
        let static_chains = repair.static_chains.iter().copied();
        encode::static_rules(&mut self.transaction, static_chains, &self.config, wanted)?;
        encode::delete_parts(&mut self.transaction, there, wanted)?;
        if repair.all_elements {
            let sets = SetId::ALL.into_iter().filter(|set| repair.counts.of(*set) > 0);
            encode::all_elements(&mut self.transaction, sets, state, &self.config)?;
        }
        let kept = sessions.iter().filter(|session| start.new || start.rebuild.ends(session.list));
        encode::add_sessions(&mut self.transaction, &kept.collect::<Vec<_>>())
    }

    /// Sends what changed. On an error nothing is taken for granted any more.
    fn partial(
        &mut self,
        mut synced: Synced,
        snapshot: &Snapshot,
        changes: &Changes,
    ) -> Result<(), Error> {
        let entries = changes.services.iter().filter_map(|name| snapshot.services.get(name));
        if self.look_for_fast_path(entries) {
            synced.generation = next_generation(synced.generation);
        }
        if let Err(error) =
            self.attempts.before(&mut self.netlink, &self.config, &synced.state, changes)
        {
            tracing::debug!(%error, "refused connections since they were last counted are not counted");
        }
        let there = Parts::of(&self.config, &synced.state);
        let (diff, sessions) = synced.state.update(snapshot, changes, &self.config);
        let wanted = Parts::of(&self.config, &synced.state);
        if !diff.is_empty() {
            synced.counts.change(&diff);
            let counters = carried_over(&mut self.netlink, &diff)?;
            self.transaction.clear(None);
            self.encode_partial(&diff, &counters, there, wanted).map_err(too_long)?;
            self.commit(&mut synced)?;
            self.traffic.written(&diff, &counters);
            self.attempts.written(&diff);
            self.last.chains = diff.new_chains.len();
        }
        self.attempts.forget(changes, &synced.state);
        if sessions.any {
            self.end_sessions(&mut synced)?;
        }
        let Diff { new_chains, mut stale_chains, .. } = diff;
        let left = std::mem::take(&mut self.stale_chains);
        stale_chains.extend(left.into_iter().filter(|chain| !new_chains.contains(chain)));
        self.delete_chains(&mut synced, stale_chains)?;
        if wanted.flowtable && !there.flowtable {
            self.follow_links(&mut synced, true)?;
        }
        self.synced = Some(synced);
        Ok(())
    }

    fn encode_partial(
        &mut self,
        diff: &Diff,
        counters: &Counters,
        there: Parts,
        wanted: Parts,
    ) -> Result<(), TooLong> {
        let transaction = &mut self.transaction;
        encode::make_parts(transaction, there, wanted, self.config.family)?;
        encode::changes(transaction, diff, &self.config, counters)?;
        if there != wanted {
            let forward = CHAINS.iter().filter(|chain| chain.id == Fixed::FilterForward);
            encode::static_rules(transaction, forward, &self.config, wanted)?;
        }
        encode::delete_parts(transaction, there, wanted)
    }

    fn commit(&mut self, synced: &mut Synced) -> Result<(), Error> {
        if self.transaction.is_empty() {
            return Ok(());
        }
        self.gate.pass(&self.transaction)?;
        let large = self.transaction.elements() >= LARGE;
        let pause = self.watch.as_ref().filter(|_| large).map(Watch::pause);
        let result = self.netlink.commit(&mut self.transaction);
        synced.generation = next_generation(synced.generation);
        if let Some(pause) = pause {
            pause.end(|| self.netlink.generation().ok() == Some(synced.generation));
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

    /// Reads the counters of elements that a full sync may delete.
    fn count_before_full(&mut self, synced: &Synced) {
        if self.config.count_refused
            && self.attempts.read(&mut self.netlink, &self.config, &synced.state).is_err()
        {
            tracing::debug!("refused connections since they were last counted are not counted");
        }
    }

    fn report(&self) -> SyncReport {
        let Some(synced) = &self.synced else { return SyncReport::default() };
        let total = synced.counts.elements();
        let chains = synced.state.chains().len() + CHAINS.len();
        SyncReport {
            counts: vec![
                ObjectCount { kind: "elements", written: self.last.elements, total },
                ObjectCount { kind: "chains", written: self.last.chains, total: chains },
            ],
            without_fast_path: self.without_fast_path(&synced.state),
            ..SyncReport::default()
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
        let notification = self.watch.as_ref().and_then(Watch::take);
        match notification {
            Some(Notification::None) => return Ok(true),
            Some(Notification::Changed) => return Ok(false),
            Some(Notification::Lost) | None => {}
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
            sure: notification.is_some(),
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
    fn algorithms(&self) -> Vec<Algorithm> {
        let hashes = [Algorithm::SourceHash, Algorithm::Maglev];
        if self.has_hash { hashes.to_vec() } else { Vec::new() }
    }

    /// Holds as long as the generation of the ruleset stays, which any program's change raises.
    async fn read_ahead(&mut self) {
        self.ahead = match self.read() {
            Ok(read) => Some(read),
            Err(error) => {
                tracing::debug!(%error, "the table cannot be read before the first sync");
                None
            }
        };
    }

    fn annotations(&self) -> Vec<&'static str> {
        vec![crate::fast_path::ANNOTATION]
    }

    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        self.last = LastSync::default();
        let synced = self.synced.take();
        if let (Scope::Full | Scope::Repair(_), Some(synced)) = (scope, &synced) {
            self.count_before_full(synced);
        }
        let result = match (scope, synced) {
            (Scope::Partial(changes), Some(synced)) => self.partial(synced, snapshot, changes),
            (Scope::Partial(_) | Scope::Full, _) => self.full(snapshot, &Rebuild::Nothing),
            (Scope::Repair(repair), _) => self.full(snapshot, &Rebuild::of(repair)),
        };
        result.map_err(|error| sync_error(&error))?;
        let removed_udp = std::mem::take(&mut self.removed_udp);
        Ok(SyncReport { removed_udp, ..self.report() })
    }

    /// With a [waker](ProxyBackend::set_waker): whether the kernel told of a change of the table that is not ours.
    ///
    /// Where the kernel cannot tell, or not all of it, reads the number of the ruleset's generation; only if another program changed
    /// something, looks at the table, at all its rules and (from Linux 6.17 on) at the sizes of its sets.
    async fn intact(&mut self) -> Result<bool, SyncError> {
        self.verify().map_err(|error| sync_error(&error))
    }

    async fn compare(&mut self, snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        let (synced, stale) = (&self.synced, &self.stale_chains);
        let kept = |chain: &Chain| {
            let known = synced.as_ref().is_some_and(|synced| synced.state.chains().contains(chain));
            known || stale.contains(chain)
        };
        compare(&mut self.netlink, &self.config, snapshot, kept).map_err(|error| sync_error(&error))
    }

    async fn session(
        &mut self,
        _snapshot: &Snapshot,
        key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        let Some(synced) = &self.synced else { return Err(unknown()) };
        affinity::session(&mut self.netlink, self.config.family, &synced.state, key)
            .map_err(|error| sync_error(&error))
    }

    /// Elements by their keys, and chains one by one: how many messages that takes depends on the endpoints of the service port alone.
    async fn look_up(
        &mut self,
        _snapshot: &Snapshot,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        let Some(synced) = &self.synced else { return Err(unknown()) };
        let Some(plan) = synced.state.plan(&query.service) else {
            let unwritten = "the last sync did not write this service port";
            return Err(SyncError::NotFound(unwritten.to_owned()));
        };
        let parts = Parts::of(&self.config, &synced.state);
        look_up(&mut self.netlink, &self.config, parts, plan, query)
            .map_err(|error| sync_error(&error))
    }

    /// Listens to changes of the ruleset, in the network namespace of this thread, and wakes when another program touches the table.
    fn set_waker(&mut self, waker: CheckWaker) {
        let family = self.config.family;
        if let Some(fast_path) = &mut self.fast_path {
            fast_path.set_waker(&self.config, waker.clone());
        }
        self.waker = Some(waker.clone());
        let group = &self.watch_group;
        let watch = self.netlink.port().and_then(|port| Watch::start(family, port, waker, group));
        match watch {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => tracing::warn!(
                %family,
                %error,
                "cannot watch the table; changes by others are found every sync period only"
            ),
        }
    }

    fn set_node_ports(&mut self, addresses: &NodePortAddresses) -> bool {
        self.config.node_ports = addresses.clone();
        self.synced = None;
        true
    }

    /// Connections of each service port in the order of names; empty before the first sync.
    ///
    /// The kernel counts at the frontends, from the moment when a frontend is written. Where it is written again, because the number of its
    /// endpoints or its policy changed, it counts on.
    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let Some(synced) = &self.synced else { return Ok(Vec::new()) };
        let family = self.config.family;
        self.traffic
            .read(&mut self.netlink, family, &synced.state)
            .map_err(|error| sync_error(&error))
    }

    /// Attempts to connect that the elements of unserved frontends and of source ranges refused or dropped; empty before the first sync, and
    /// where they are not to be counted.
    async fn refused(&mut self) -> Result<Vec<Refused>, SyncError> {
        let Some(synced) = self.synced.as_ref().filter(|_| self.config.count_refused) else {
            return Ok(Vec::new());
        };
        self.attempts
            .read(&mut self.netlink, &self.config, &synced.state)
            .map_err(|error| sync_error(&error))
    }
}

fn unknown() -> SyncError {
    let why = "the last sync failed, so it is not known what is in the table";
    SyncError::NotFound(why.to_owned())
}

/// The generation of the ruleset after a transaction: the kernel counts each, and leaves out 0.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Makes all of the skeleton, and each kind of chain, and deletes it in the same transaction.
fn probe(netlink: &mut NfTables, config: &Config, parts: Parts, pick: Pick) -> Result<(), Error> {
    let mut transaction = Transaction::new(config.netlink_family(), "kube-proxy-probe");
    encode::probe(&mut transaction, config, parts, pick).map_err(too_long)?;
    netlink.commit(&mut transaction)
}
