//! Which endpoint the next connection goes to: round robin over a shuffled list or by another algorithm, and clients that stay where they are.
//!
//! Pure data; the time is passed in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_proxy_core::algorithm::{connection_slot, source_slot};
use kube_proxy_core::{Algorithm, Endpoint, ServiceEntry, TrafficPolicy, maglev, weight};
use rustc_hash::FxHashMap;

use crate::traffic::Target;

/// What a service port's endpoints are, as far as balancing goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    /// By policy; each kind of traffic arrives at a listening port of its own. What stands there several times is chosen as often.
    pub(crate) lists: [Vec<SocketAddr>; 2],
    /// Those that still answer: a UDP session with one of them continues.
    pub(crate) serving: Vec<SocketAddr>,
    /// How long a client stays with its endpoint after its last connection.
    pub(crate) affinity: Option<Duration>,
    /// How an endpoint is chosen.
    pub(crate) algorithm: Algorithm,
}

impl Endpoints {
    /// What the balancer needs of a service port, with the endpoints of these lists.
    pub(crate) fn of(entry: &ServiceEntry, lists: [&[Endpoint]; 2]) -> Self {
        let serving = entry.endpoints.iter().filter(|endpoint| endpoint.conditions.serving);
        let algorithm = entry.port.policy.algorithm.unwrap_or_default();
        let slots = |list: &[Endpoint]| match algorithm {
            Algorithm::Maglev => by_table(list),
            Algorithm::Random | Algorithm::SourceHash | Algorithm::LeastConnections => {
                by_weight(list)
            }
        };
        Self {
            lists: lists.map(slots),
            serving: serving.map(Endpoint::socket_address).collect(),
            affinity: entry.port.policy.session_affinity,
            algorithm,
        }
    }
}

/// The addresses of endpoints by the slots of their Maglev table.
fn by_table(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let places = maglev::table(endpoints).into_iter();
    places.map(|place| endpoints[place as usize].socket_address()).collect()
}

/// The addresses of endpoints, each as often as its weight says.
fn by_weight(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let Some(slots) = weight::slots(endpoints) else {
        return endpoints.iter().map(Endpoint::socket_address).collect();
    };
    let repeated = endpoints.iter().zip(slots).flat_map(|(endpoint, slots)| {
        std::iter::repeat_n(endpoint.socket_address(), slots as usize)
    });
    repeated.collect()
}

/// Below this many sessions nothing is purged.
const FEW_SESSIONS: usize = 1024;

/// The balancing state of one service port, shared by all its frontends.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    lists: [RoundRobin; 2],
    targets: FxHashMap<SocketAddr, Arc<Target>>,
    serving: Vec<SocketAddr>,
    affinity: Option<Duration>,
    algorithm: Algorithm,
    sessions: FxHashMap<IpAddr, Session>,
    /// Expired sessions are looked for when there are so many.
    purge_at: usize,
    /// Endpoints that failed, and until when they are left alone.
    resting: FxHashMap<SocketAddr, Instant>,
    /// How long they are; zero for never.
    rest: Duration,
    random: Random,
}

#[derive(Debug, Default)]
struct RoundRobin {
    /// As given, to know whether anything changed.
    given: Vec<SocketAddr>,
    /// The same, shuffled.
    order: Vec<Arc<Target>>,
    /// Each once, and how often it stands there; only where connections are counted.
    once: Vec<(Arc<Target>, u64)>,
    next: usize,
}

impl RoundRobin {
    /// Finds out how often each endpoint stands there, which stand side by side.
    fn count(&mut self, targets: &FxHashMap<SocketAddr, Arc<Target>>) {
        self.once.clear();
        for address in &self.given {
            match self.once.last_mut().filter(|(target, _)| target.address == *address) {
                Some((_, times)) => *times += 1,
                None => self.once.extend(targets.get(address).map(|target| (target.clone(), 1))),
            }
        }
    }
}

/// A client's endpoint, and when the client was last seen.
#[derive(Clone, Debug)]
struct Session {
    endpoint: SocketAddr,
    last: Instant,
}

impl Balancer {
    /// Without endpoints. `seed` decides about the order; `rest` is for how long an endpoint that failed is left alone.
    pub(crate) fn new(seed: u64, rest: Duration) -> Self {
        Self { random: Random(seed | 1), rest, purge_at: FEW_SESSIONS, ..Self::default() }
    }

    /// Takes over new endpoints. Clients whose endpoint is gone choose again.
    pub(crate) fn update(&mut self, endpoints: Endpoints, now: Instant) {
        let Endpoints { lists, mut serving, affinity, algorithm } = endpoints;
        self.algorithm = algorithm;
        serving.sort_unstable();
        self.serving = serving;
        let mut old = std::mem::take(&mut self.targets);
        for address in lists.iter().flatten() {
            let target = self.targets.entry(*address);
            target.or_insert_with(|| {
                old.remove(address).unwrap_or_else(|| Arc::new(Target::new(*address)))
            });
        }
        for (list, given) in self.lists.iter_mut().zip(lists) {
            if list.given != given {
                list.order =
                    given.iter().filter_map(|address| self.targets.get(address).cloned()).collect();
                self.random.shuffle(&mut list.order);
                list.next = 0;
                list.given = given;
            }
            if algorithm == Algorithm::LeastConnections {
                list.count(&self.targets);
            } else {
                list.once = Vec::new();
            }
        }
        if affinity.is_none() {
            self.sessions = FxHashMap::default();
        }
        self.affinity = affinity;
        self.purge(now);
        let targets = &self.targets;
        self.sessions.retain(|_, session| targets.contains_key(&session.endpoint));
        self.resting.retain(|address, until| targets.contains_key(address) && *until > now);
    }

    /// The endpoint for a connection of `client`. `failed` is one that was chosen before and could not be reached:
    /// then the client's session does not count, and the next other one in turn is chosen.
    pub(crate) fn pick(
        &mut self,
        policy: TrafficPolicy,
        client: SocketAddr,
        failed: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Arc<Target>> {
        if self.affinity.is_none() {
            return self.choose(policy, client, failed, now);
        }
        if failed.is_none()
            && let Some(target) = self.session(policy, client.ip(), now)
        {
            return Some(target);
        }
        let target = self.choose(policy, client, failed, now)?;
        if self.sessions.len() >= self.purge_at {
            self.purge(now);
            self.purge_at = FEW_SESSIONS.max(self.sessions.len() * 2);
        }
        self.sessions.insert(client.ip(), Session { endpoint: target.address, last: now });
        Some(target)
    }

    /// The endpoint a client stays with, if this policy has it; its time starts again.
    fn session(
        &mut self,
        policy: TrafficPolicy,
        client: IpAddr,
        now: Instant,
    ) -> Option<Arc<Target>> {
        let endpoint = self.remembered(policy, client, now)?.endpoint;
        self.sessions.get_mut(&client)?.last = now;
        self.targets.get(&endpoint).cloned()
    }

    /// Where a client's session leads under this policy, if it has one; nothing is chosen, and its time does not start again.
    pub(crate) fn remembered(
        &self,
        policy: TrafficPolicy,
        client: IpAddr,
        now: Instant,
    ) -> Option<kube_proxy_core::Session> {
        let session = self.sessions.get(&client)?;
        let ends = session.last + self.affinity?;
        let remaining = ends.saturating_duration_since(now);
        let endpoint = session.endpoint;
        let counts = !remaining.is_zero() && self.lists[policy as usize].given.contains(&endpoint);
        counts.then_some(kube_proxy_core::Session { endpoint, remaining })
    }

    fn choose(
        &mut self,
        policy: TrafficPolicy,
        client: SocketAddr,
        failed: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Arc<Target>> {
        let chosen = match self.algorithm {
            Algorithm::Random => None,
            Algorithm::SourceHash => self.in_slot(policy, |slots| source_slot(client.ip(), slots)),
            Algorithm::Maglev => self.in_slot(policy, |slots| connection_slot(client, slots)),
            Algorithm::LeastConnections => self.least_used(policy, failed, now),
        };
        // One that cannot be reached is as if it were not there.
        let usable = |target: &Arc<Target>| self.is_usable(target, failed, now);
        match chosen.filter(usable) {
            Some(target) => Some(target),
            None => self.next(policy, failed, now),
        }
    }

    /// What nftables mode chooses for a hash, on every node: each slot has the same endpoint everywhere.
    fn in_slot(&self, policy: TrafficPolicy, slot: impl FnOnce(u32) -> u32) -> Option<Arc<Target>> {
        let given = &self.lists[policy as usize].given;
        let slots = u32::try_from(given.len()).ok().filter(|slots| *slots > 0)?;
        let address = given.get(slot(slots) as usize)?;
        self.targets.get(address).cloned()
    }

    /// The fewest open connections by weight; of several, the next in turn.
    fn least_used(
        &mut self,
        policy: TrafficPolicy,
        failed: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Arc<Target>> {
        let list = &self.lists[policy as usize];
        let (before, from) = list.once.split_at(list.next % list.once.len().max(1));
        let in_turn = from.iter().chain(before);
        let usable = in_turn.filter(|(target, _)| self.is_usable(target, failed, now));
        let (target, _) = usable.min_by(|(one, one_weight), (other, other_weight)| {
            let load = |target: &Target, of_other: u64| (target.counters.open() + 1) * of_other;
            load(one, *other_weight).cmp(&load(other, *one_weight))
        })?;
        let target = target.clone();
        let list = &mut self.lists[policy as usize];
        list.next = (list.next + 1) % list.once.len();
        Some(target)
    }

    fn is_usable(&self, target: &Target, failed: Option<SocketAddr>, now: Instant) -> bool {
        failed != Some(target.address)
            && self.resting.get(&target.address).is_none_or(|until| *until <= now)
    }

    fn next(
        &mut self,
        policy: TrafficPolicy,
        failed: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Arc<Target>> {
        let list = &self.lists[policy as usize];
        let count = list.order.len();
        let awake = (0..count)
            .find(|ahead| self.is_usable(&list.order[(list.next + ahead) % count], failed, now));
        let list = &mut self.lists[policy as usize];
        // If all of them rest or failed, none does.
        let at = (list.next + awake.unwrap_or(0)) % count.max(1);
        let target = list.order.get(at)?.clone();
        list.next = (at + 1) % count;
        Some(target)
    }

    /// An endpoint could not be reached.
    pub(crate) fn failed(&mut self, endpoint: SocketAddr, now: Instant) {
        if !self.rest.is_zero() && self.targets.contains_key(&endpoint) {
            self.resting.insert(endpoint, now + self.rest);
        }
    }

    /// Whether a UDP session with this endpoint continues.
    pub(crate) fn serves(&self, endpoint: &SocketAddr) -> bool {
        self.serving.binary_search(endpoint).is_ok()
    }

    /// Every endpoint that may be chosen.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    fn purge(&mut self, now: Instant) {
        if let Some(timeout) = self.affinity {
            self.sessions
                .retain(|_, session| now.saturating_duration_since(session.last) < timeout);
        }
    }

    /// How many clients are remembered.
    #[cfg(test)]
    fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

/// Numbers that need not be unpredictable (xorshift, Marsaglia 2003).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(1)
    }
}

impl Random {
    /// Starts from a number that is not zero.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let high = self.0 >> 16;
        usize::try_from(high % bound.max(1) as u64).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A seed that differs from process to process.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests;
