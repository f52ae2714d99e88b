//! Whether this proxy keeps up, as load balancers, kubelets and autoscalers ask for it.
//!
//! A family is healthy unless a change has been waiting for longer than it may: a proxy that cannot write its rules is not to be sent traffic.
//! Losing contact with the API server is no reason, unless the operator asks for it: the rules in place continue working.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kube_proxy_core::{IpFamily, Node, PerFamily};
use serde_json::{Map, Value, json};

/// The state of all families and of the node, shared between the threads that sync and those that answer.
#[derive(Debug)]
pub struct Health {
    /// How long a change may wait: two sync periods.
    patience: Duration,
    families: PerFamily<Option<FamilyHealth>>,
    node: Mutex<NodeState>,
    staleness: Option<Staleness>,
}

/// When the silence of the API server makes `/healthz` fail.
pub struct Staleness {
    /// How long it may be silent.
    pub limit: Duration,
    /// How long it is silent.
    pub silence: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl fmt::Debug for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staleness({:?})", self.limit)
    }
}

/// What one family reports.
#[derive(Debug, Default)]
pub struct FamilyHealth(Mutex<Times>);

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// When the last successful sync ended.
    updated: Option<SystemTime>,
    /// Since when a change waits to be put on the node.
    waiting_since: Option<Instant>,
    /// The family has reported by itself.
    reported: bool,
    /// This node cannot have the family after all.
    absent: bool,
}

/// What is known of the Node object of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    /// It has not answered yet, or there is no API server.
    Unheard,
    /// It is there, and this is whether it may take traffic.
    Known { eligible: bool },
    /// It is gone.
    Gone,
}

impl FamilyHealth {
    /// Reports since when a change waits; `None` if none does.
    pub fn set_waiting_since(&self, since: Option<Instant>) {
        let mut times = self.lock();
        times.waiting_since = since;
        times.reported = true;
    }

    /// Reports a successful sync.
    pub fn set_updated(&self, at: SystemTime) {
        self.lock().updated = Some(at);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer of the health endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// 200 rather than 503.
    pub healthy: bool,
    /// The JSON body.
    pub body: String,
}

impl Health {
    /// Nothing synced, nothing waiting. `patience` is how long a change may wait.
    pub fn new(
        families: &[IpFamily],
        patience: Duration,
        staleness: Option<Staleness>,
    ) -> Arc<Self> {
        let families = PerFamily::from_fn(|f| families.contains(&f).then(FamilyHealth::default));
        Arc::new(Self { patience, families, node: Mutex::new(NodeState::Unheard), staleness })
    }

    /// Whether every family keeps up.
    pub fn keeps_up(&self, now: Instant) -> bool {
        IpFamily::BOTH.iter().filter_map(|family| self.family(*family)).all(|health| {
            let waiting = health.lock().waiting_since;
            waiting.is_none_or(|since| now.saturating_duration_since(since) <= self.patience)
        })
    }

    /// Where one family reports to; `None` if it is not in use.
    pub fn family(&self, family: IpFamily) -> Option<&FamilyHealth> {
        self.families.get(family).as_ref().filter(|health| !health.lock().absent)
    }

    /// Only these families are in use, as the start has found out.
    pub fn keep_families(&self, families: &[IpFamily]) {
        for family in IpFamily::BOTH.into_iter().filter(|family| !families.contains(family)) {
            if let Some(health) = self.family(family) {
                health.lock().absent = true;
            }
        }
    }

    /// There is something to write since then: a family that does not even start is not healthy for long.
    pub fn first_lists_complete(&self, at: Instant) {
        for health in IpFamily::BOTH.into_iter().filter_map(|family| self.family(family)) {
            let mut times = health.lock();
            if !times.reported {
                times.waiting_since = Some(at);
            }
        }
    }

    /// Takes in the Node object of this node, or that it is gone.
    pub fn set_node(&self, node: Option<&Node>) {
        let state = match node {
            Some(node) => NodeState::Known {
                eligible: !node.being_deleted && !node.to_be_removed_by_autoscaler,
            },
            None => NodeState::Gone,
        };
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// `/livez`: every family keeps up.
    pub fn livez(&self, now: Instant, time: SystemTime) -> Verdict {
        let (healthy, body) = self.report(now, time);
        Verdict { healthy, body: Value::Object(body).to_string() }
    }

    /// `/healthz`: every family keeps up, the node is not about to go and, if that is asked for, the API server is not silent.
    pub fn healthz(&self, now: Instant, time: SystemTime) -> Verdict {
        let (healthy, mut body) = self.report(now, time);
        let eligible = match *self.node.lock().unwrap_or_else(PoisonError::into_inner) {
            NodeState::Unheard => true,
            NodeState::Known { eligible } => eligible,
            NodeState::Gone => false,
        };
        body.insert("nodeEligible".to_owned(), json!(eligible));
        let mut heard = true;
        if let Some(staleness) = &self.staleness {
            let silence = (staleness.silence)();
            heard = silence <= staleness.limit;
            let report = json!({ "silentSeconds": silence.as_secs(), "healthy": heard });
            body.insert("apiServer".to_owned(), report);
            body.insert("healthy".to_owned(), json!(healthy && heard));
        }
        Verdict { healthy: healthy && eligible && heard, body: Value::Object(body).to_string() }
    }

    /// `/readyz`: the rules of every family were written since the start, and every family keeps up.
    ///
    /// A node that just started has the rules of its last run at best: pods that start on it before this is so may find no Service.
    pub fn readyz(&self, now: Instant, time: SystemTime) -> Verdict {
        let (keeps_up, mut body) = self.report(now, time);
        let mut written = true;
        for family in IpFamily::BOTH {
            let Some(health) = self.family(family) else { continue };
            let of_family = health.lock().updated.is_some();
            written &= of_family;
            if let Some(status) =
                body.get_mut("status").and_then(|all| all.get_mut(family.to_string()))
            {
                status["written"] = json!(of_family);
            }
        }
        let ready = written && keeps_up;
        body.insert("ready".to_owned(), json!(ready));
        Verdict { healthy: ready, body: Value::Object(body).to_string() }
    }

    /// Whether every family keeps up, and the fields that all endpoints answer with.
    fn report(&self, now: Instant, time: SystemTime) -> (bool, Map<String, Value>) {
        let mut all_healthy = true;
        let mut oldest: Option<SystemTime> = None;
        let mut status = Map::new();
        for family in IpFamily::BOTH {
            let Some(health) = self.family(family) else { continue };
            let times = *health.lock();
            let waited = times.waiting_since.map(|since| now.saturating_duration_since(since));
            let healthy = waited.is_none_or(|waited| waited <= self.patience);
            // A healthy family is as of now: nothing that was asked for is missing.
            let updated = if healthy { Some(time) } else { times.updated };
            let updated = updated.unwrap_or(SystemTime::UNIX_EPOCH);
            oldest = Some(oldest.map_or(updated, |known| known.min(updated)));
            all_healthy &= healthy;
            let report = json!({ "lastUpdated": rfc3339(updated), "healthy": healthy });
            status.insert(family.to_string(), report);
        }
        let fields = json!({
            "lastUpdated": rfc3339(oldest.unwrap_or(time)),
            "currentTime": rfc3339(time),
            "healthy": all_healthy,
            "status": status,
        });
        match fields {
            Value::Object(fields) => (all_healthy, fields),
            _ => unreachable!("a literal object"),
        }
    }
}

/// RFC 3339 in UTC with as many digits below the second as there are.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
