//! What the node holds for a frontend, in lines.

use jiff::Timestamp;

use crate::commands::changes::ago;
use crate::debug::{NodeObject, ObjectState, OnNode};

/// Objects that are named unless all are asked for: the answer is to be on the first screen.
const NAMED: usize = 6;
/// The same of repairs.
const REPAIRS: usize = 2;

/// What is wrong on the node, or that nothing is; with everything that is there if that is asked for.
pub(super) fn lines(on_node: &OnNode, all: bool) -> Vec<String> {
    if let Some(failure) = &on_node.failure {
        return vec![format!("not known: {failure}")];
    }
    let OnNode { objects, total, wrong, repaired, .. } = on_node;
    let notable = objects.iter().filter(|object| object.state != ObjectState::AsWanted).count();
    let shown = if all { objects.len() } else { NAMED.min(notable) };
    let mut lines: Vec<_> = objects.iter().take(shown).map(NodeObject::text).collect();
    let unnamed = wrong.saturating_sub(shown);
    if unnamed > 0 {
        lines.push(format!("not as they should be: {unnamed} more objects"));
    }
    match (total, wrong) {
        (0, _) => lines.push("nothing is needed for it".to_owned()),
        (_, 0) if notable == 0 && !all => {
            lines.push("all that serves it is as it should be".to_owned());
        }
        (total, wrong) if !all => lines.push(match total.saturating_sub(notable.max(*wrong)) {
            1 => "as it should be: 1 object that serves it".to_owned(),
            right => format!("as they should be: {right} objects that serve it"),
        }),
        _ => {}
    }
    let repairs = if all { repaired.len() } else { REPAIRS };
    lines.extend(repaired.iter().rev().take(repairs).map(|repaired| {
        let ago = ago(&repaired.at, Timestamp::now()).unwrap_or_default();
        format!("repaired{ago}: {}", repaired.difference.text())
    }));
    lines
}

#[cfg(test)]
mod tests;
