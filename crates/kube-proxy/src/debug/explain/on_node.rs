//! What the node holds for the frontend of a path.

use super::{FamilyExplanation, text};
use crate::debug::explanation::Path;
use crate::family::client::FamilyClient;
use crate::family::on_node::OnNode;

/// How many destinations of one question are looked up on the node: in some modes each takes several programs, while no sync can begin.
const LOOKED_UP: usize = 8;

/// Asks a family what the node holds for each path. Whatever keeps it from an answer is said in its place.
pub(in crate::debug) async fn look_up(family: &FamilyClient, explained: &mut FamilyExplanation) {
    let (paths, mut queries): (Vec<_>, Vec<_>) =
        std::mem::take(&mut explained.queries).into_iter().unzip();
    if queries.is_empty() {
        return;
    }
    queries.truncate(LOOKED_UP);
    let found = match family.look_up(queries).await {
        Ok(found) => found,
        Err(unanswered) => vec![OnNode::unknown(unanswered.to_string()); paths.len()],
    };
    let too_many =
        format!("of many destinations the first {LOOKED_UP} are looked up: ask for this one alone");
    let rest = std::iter::repeat_with(|| OnNode::unknown(too_many.clone()));
    add_on_node(&mut explained.paths, paths.into_iter().zip(found.into_iter().chain(rest)));
}

/// Adds to paths, given by their indices, what was found on the node for each.
fn add_on_node(paths: &mut [Path], found: impl IntoIterator<Item = (usize, OnNode)>) {
    for (index, on_node) in found {
        let Some(path) = paths.get_mut(index) else { continue };
        if on_node.wrong > 0 {
            path.advice.push(
                "kube-proxy repairs what it notices of that, and a restart of it repairs at once; kube-proxy check names all that differs on this node"
                    .to_owned(),
            );
        }
        path.on_node = Some(on_node);
        path.summary = text::summary(path);
    }
}
