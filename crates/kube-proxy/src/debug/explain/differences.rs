//! Whether what a path needs is on the node.

use crate::debug::explanation::Path;
use crate::family::check::{Difference, FamilyCheck};

/// Adds to the paths of a family what differs on the node for their service ports.
pub(in crate::debug) fn add_differences(paths: &mut [Path], check: &FamilyCheck) {
    if !check.compared {
        return;
    }
    for path in paths.iter_mut().filter(|path| path.family == check.family) {
        let Some(port) = &path.service_port else { continue };
        let name = port.id.name();
        let is_own = |difference: &&Difference| difference.service.as_ref() == Some(&name);
        let own: Vec<_> = check.differences.iter().filter(is_own).cloned().collect();
        let others = check.total - own.len();
        if !own.is_empty() || others > 0 {
            path.advice.push(match own.len() {
                0 => format!("{others} objects of other Services, or of all, are not as they should be on this node: kube-proxy check names them"),
                _ => "the rules on this node are not as they should be: kube-proxy repairs what it notices, a restart of it repairs at once, and kube-proxy check names all".to_owned(),
            });
        }
        path.differences = Some(own);
    }
}
