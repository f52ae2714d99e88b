//! A YAML or JSON document as a tree in which every key and value knows its line and column.
//!
//! Decoding into a struct reports one error and loses the places of everything else.
//! A caller that has to report each of several faults, or to place a fault that it finds after decoding, reads the document as a [`Node`].
//!
//! ```
//! use kube_proxy_yaml::Node;
//!
//! let text = "spec:\n  ports:\n  - port: 80\n";
//! let root: Node = serde_saphyr::from_str(text)?;
//! let port = root.find(&["spec", "ports", "0", "port"]).expect("the field exists");
//! assert_eq!((port.line, port.column), (3, 11));
//! # Ok::<(), serde_saphyr::Error>(())
//! ```

mod visit;

/// A value and where it is written.
///
/// Of an alias, the place is that of the alias.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub content: Content,
    /// From 1; 0 if the parser does not know it.
    pub line: u64,
    /// In characters, from 1; 0 if the parser does not know it.
    pub column: u64,
}

/// What is written there.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. One that is too large for the type is a [`Content::Float`].
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the document, with duplicates if the parser lets them through.
    Map(Vec<(Key, Node)>),
}

/// The name of a field and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name.
    pub name: String,
    /// As of a [`Node`].
    pub line: u64,
    /// As of a [`Node`].
    pub column: u64,
}

impl Node {
    /// The value at a path of field names and list positions, counted from 0. Of duplicates, the last.
    pub fn find<S: AsRef<str>>(&self, path: &[S]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| node.child(step.as_ref()))
    }

    /// The value at a path, or at the longest part of it that exists.
    pub fn nearest<S: AsRef<str>>(&self, path: impl IntoIterator<Item = S>) -> &Self {
        let mut node = self;
        for step in path {
            match node.child(step.as_ref()) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    fn child(&self, step: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().rev().find(|(key, _)| key.name == step).map(|(_, node)| node)
            }
            Content::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Line and column, if the parser knows them.
    pub fn place(&self) -> Option<(u64, u64)> {
        (self.line > 0).then_some((self.line, self.column))
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
