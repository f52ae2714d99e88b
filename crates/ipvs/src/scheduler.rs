//! Which scheduler the virtual servers of a service port have.

use kube_proxy_core::{Algorithm, ServiceEntry, ServicePort};

/// The annotation of a Service that names the scheduler of its virtual servers.
pub const SCHEDULER: &str = "kube-proxy.io/ipvs-scheduler";

/// Schedulers that know no weights but 0, each with the one that is the same with weights.
const WEIGHTED: [(&str, &str); 2] = [("rr", "wrr"), ("lc", "wlc")];

/// What may be the scheduler, the best first; the last, which is the default, the kernel has.
pub(crate) fn candidates<'a>(entry: &'a ServiceEntry, default: &'a str) -> Vec<&'a str> {
    let weighted = are_weighted(entry);
    let own = entry.port.policy.annotation(SCHEDULER);
    let algorithm = entry.port.policy.algorithm.and_then(of_algorithm);
    let mut all = Vec::new();
    for name in own.into_iter().chain(algorithm).chain([default]) {
        let with_weights = WEIGHTED.iter().find(|(plain, _)| weighted && *plain == name);
        all.extend(with_weights.map(|(_, with_weights)| *with_weights));
        all.push(name);
    }
    all
}

/// The scheduler whose table has as many places for a destination as its weight, and few in all.
pub(crate) const SOURCE_HASH: &str = "sh";

/// Algorithms that are schedulers.
pub(crate) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::SourceHash, Algorithm::Maglev, Algorithm::LeastConnections];

/// The scheduler for an algorithm; `None` is the default.
pub(crate) fn of_algorithm(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Random => None,
        Algorithm::SourceHash => Some(SOURCE_HASH),
        Algorithm::Maglev => Some("mh"),
        Algorithm::LeastConnections => Some("lc"),
    }
}

/// The best that the kernel has.
pub(crate) fn chosen<'a>(entry: &'a ServiceEntry, default: &'a str, unknown: &[String]) -> &'a str {
    let is_known = |name: &&str| !unknown.iter().any(|unknown| unknown == name);
    candidates(entry, default).into_iter().find(is_known).unwrap_or(default)
}

/// Whether endpoints that take new connections have different weights, or new ones will.
fn are_weighted(entry: &ServiceEntry) -> bool {
    let mut weights = entry.choice.reachable().map(kube_proxy_core::Endpoint::weight);
    starts_slowly(&entry.port)
        || weights.next().is_some_and(|first| weights.any(|other| other != first))
}

/// Whether new endpoints of a service port start slowly.
pub(crate) fn starts_slowly(port: &ServicePort) -> bool {
    port.policy.algorithm != Some(Algorithm::SourceHash)
        && port.policy.slow_start.is_some_and(|slow| slow.duration().is_some())
}
