//! Where in a document a field is written.

use std::cell::OnceCell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::yaml::yaml_options;

/// The values of a document with their places.
enum Tree {
    Leaf,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(String, Spanned<Tree>)>),
}

/// Finds places in one document. It is only read for that when the first place is asked for.
pub(super) struct Places<'d> {
    document: &'d str,
    root: OnceCell<Option<Spanned<Tree>>>,
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
        let mut node = self.root.get_or_init(read).as_ref()?;
        for step in steps(field) {
            let next = match &node.value {
                Tree::Map(entries) => entries.iter().find(|(key, _)| key == step).map(|(_, v)| v),
                Tree::List(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)),
                Tree::Leaf => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        let location = node.referenced;
        (location.line() > 0).then(|| (location.line(), location.column()))
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

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}
