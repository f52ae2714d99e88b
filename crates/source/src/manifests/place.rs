//! Where in a document a field is written.

use std::cell::OnceCell;

use kube_proxy_yaml::Node;

use super::yaml::yaml_options;

/// Finds places in one document. It is only read for that when the first place is asked for.
pub(super) struct Places<'d> {
    document: &'d str,
    root: OnceCell<Option<Node>>,
}

impl<'d> Places<'d> {
    pub(super) fn new(document: &'d str) -> Self {
        Self { document, root: OnceCell::new() }
    }

    /// Line and column, from 1, of a field like `spec.ports[0].port`, or of the innermost part of the path that exists.
    /// `None` if the document cannot be read.
    pub(super) fn find(&self, field: &str) -> Option<(u64, u64)> {
        let options = yaml_options(self.document);
        let read = || serde_saphyr::from_str_with_options(self.document, options).ok();
        let root = self.root.get_or_init(read).as_ref()?;
        root.nearest(steps(field)).place()
    }
}

/// The names and indices of a path: `a.b[0][x.y/z].c` is `a`, `b`, `0`, `x.y/z`, `c`.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    let mut rest = field;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = inner.split_once(']')?;
            rest = after;
            return Some(step);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (step, after) = rest.split_at(end);
        rest = after;
        Some(step)
    })
}
