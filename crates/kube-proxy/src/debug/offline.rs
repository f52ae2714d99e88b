//! Explanations without a running proxy.

use std::sync::Arc;
use std::time::SystemTime;

use kube_proxy_core::Tracker;
use kube_proxy_core::explain::NodeFacts;

use super::destination::{Destination, Origin};
use super::explain;
use super::explanation::Explanation;
use super::view;
use crate::family::history::Changes;
use crate::family::state::FamilyState;

/// What is known of the rules when no proxy was asked.
const NOT_ASKED: &str = "no proxy was asked: this is what one with this configuration does, whether or not its rules are on the node";

/// Explains what a proxy of this node and mode would do with these families.
///
/// # Errors
/// What is wrong with the question.
pub(crate) fn explain_offline(
    node: &str,
    mode: &str,
    families: &[(Tracker, NodeFacts)],
    from: Option<&str>,
    to: &str,
) -> Result<Explanation, String> {
    let from: Option<Origin> = from.map(str::parse).transpose()?;
    let to: Destination = to.parse()?;
    let mut answer = Explanation {
        node: node.to_owned(),
        mode: mode.to_owned(),
        families: Vec::new(),
        paths: Vec::new(),
        similar: Vec::new(),
        warnings: vec![NOT_ASKED.to_owned()],
    };
    for (tracker, facts) in families {
        let explained = explain::of_family(tracker, state(tracker), facts, |_| None, from, &to);
        let mut family = view::family(&explained.state);
        // Nothing was there to see changes.
        family.changes_since = None;
        answer.families.push(family);
        answer.paths.extend(explained.paths);
        for similar in explained.similar {
            if !answer.similar.contains(&similar) {
                answer.similar.push(similar);
            }
        }
    }
    Ok(answer)
}

fn state(tracker: &Tracker) -> FamilyState {
    let snapshot = tracker.snapshot();
    FamilyState {
        family: snapshot.family,
        synced: None,
        waiting: None,
        failure: None,
        lacks_fast_path: false,
        node_ip: snapshot.node_ip,
        changes: Changes { last: Arc::default(), since: SystemTime::now() },
        zone: snapshot.zone.clone(),
    }
}
