//! A configuration file as a tree that still knows where everything was written.
//!
//! Reading happens in two steps because one serde pass cannot do what is wanted here:
//! name *every* unknown and duplicate field, and point at line, column and path of a value of the wrong type.

use std::fmt;

use figment::value::{Dict, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::types::{API_VERSION, KIND, KubeProxyConfiguration, VModule};
use super::whole;

/// A value of the document with the place where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    content: Content,
    pub(crate) line: u64,
    pub(crate) column: u64,
}

#[derive(Clone, Debug)]
enum Content {
    Null,
    Scalar(Value),
    List(Vec<Node>),
    /// In the order of the document, with duplicates.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
struct Key {
    name: String,
    line: u64,
    column: u64,
}

/// Why a document cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Line and column, where known.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) reason: String,
}

impl Problem {
    fn new(node: Option<&Node>, reason: impl Into<String>) -> Self {
        Self { at: node.map(|node| (node.line, node.column)), reason: reason.into() }
    }
}

/// Parses a YAML or JSON document and checks that it is of the right kind.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    // The deepest field lies four levels down; a limit keeps hostile nesting off the stack.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: 16 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // As in Go.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let mut documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Problem {
            at: error.location().map(|at| (at.line(), at.column())).filter(|at| at.0 > 0),
            reason: reason(&error.to_string()),
        })?;
    documents.retain(|document| !matches!(document.content, Content::Null));
    if let Some(second) = documents.get(1) {
        return Err(Problem::new(Some(second), "a second document; one is expected"));
    }
    let root = documents.pop().ok_or_else(|| Problem::new(None, "the document is empty"))?;
    let Content::Map(_) = root.content else {
        return Err(Problem::new(Some(&root), format!("a {KIND} object is expected")));
    };
    expect_text(&root, "apiVersion", API_VERSION)?;
    expect_text(&root, "kind", KIND)?;
    Ok(root)
}

/// The first line of a message, without the place, which is shown elsewhere.
fn reason(text: &str) -> String {
    let line = text.lines().next().unwrap_or("not valid YAML");
    line.rsplit_once(" at line ").map_or(line, |(reason, _)| reason).to_owned()
}

fn expect_text(root: &Node, field: &str, expected: &str) -> Result<(), Problem> {
    match root.find(&[field.to_owned()]) {
        Some(node) if node.text() == Some(expected) => Ok(()),
        Some(node) => Err(Problem::new(
            Some(node),
            format!("{field}: {expected:?} is expected, not {}", node.describe()),
        )),
        None => Err(Problem::new(None, format!("{field} is missing; {expected:?} is expected"))),
    }
}

impl Node {
    /// The node at a path of field names and list positions; of duplicates the last.
    pub(crate) fn find(&self, path: &[String]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        let child = match &self.content {
            Content::Map(entries) => {
                entries.iter().rev().find(|(key, _)| key.name == *first).map(|(_, node)| node)
            }
            Content::List(items) => items.get(first.parse::<usize>().ok()?),
            Content::Null | Content::Scalar(_) => None,
        };
        child?.find(rest)
    }

    /// The node at a path, or that of the closest field around it.
    pub(crate) fn nearest(&self, path: &[String]) -> &Self {
        let around = (0..=path.len()).rev().find_map(|length| self.find(&path[..length]));
        around.unwrap_or(self)
    }

    fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(value) => value.as_str(),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match &self.content {
            Content::Null => "null".to_owned(),
            Content::Scalar(value) => value.to_actual().to_string(),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "an object".to_owned(),
        }
    }

    /// Every unknown or duplicate field, each with its path and place.
    pub(crate) fn strict_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        collect_strict_errors(self, &shape(), "", &mut errors);
        errors
    }

    /// The known fields that are set: no unknown fields, no nulls, of duplicates the last.
    pub(crate) fn known_fields(&self) -> Dict {
        match known_value(self, &shape()) {
            Some(Value::Dict(_, dict)) => dict,
            _ => Dict::new(),
        }
    }
}

/// All fields there are: objects with their fields, lists with one element, empty objects for free-form maps.
fn shape() -> serde_json::Value {
    let mut all = KubeProxyConfiguration {
        // Written only if set.
        udp_idle_timeout: super::duration::GoDuration(1),
        ..KubeProxyConfiguration::default()
    };
    all.logging.vmodule = vec![VModule::default()];
    serde_json::to_value(&all).unwrap_or_default()
}

fn collect_strict_errors(
    node: &Node,
    shape: &serde_json::Value,
    path: &str,
    errors: &mut Vec<String>,
) {
    match (&node.content, shape) {
        (Content::List(items), serde_json::Value::Array(shapes)) => {
            let Some(shape) = shapes.first() else { return };
            for (index, item) in items.iter().enumerate() {
                collect_strict_errors(item, shape, &format!("{path}[{index}]"), errors);
            }
        }
        (Content::Map(entries), serde_json::Value::Object(fields)) => {
            for (index, (key, child)) in entries.iter().enumerate() {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", key.name);
                let mut report = |what: &str| {
                    errors.push(format!(
                        "{what} field {path:?} (line {}, column {})",
                        key.line, key.column
                    ));
                };
                if entries[..index].iter().any(|(earlier, _)| earlier.name == key.name) {
                    report("duplicate");
                }
                match fields.get(&key.name) {
                    Some(shape) => collect_strict_errors(child, shape, &path, errors),
                    None if fields.is_empty() => {}
                    None => report("unknown"),
                }
            }
        }
        _ => {}
    }
}

fn known_value(node: &Node, shape: &serde_json::Value) -> Option<Value> {
    match &node.content {
        Content::Null => None,
        Content::Scalar(value) => Some(value.clone()),
        Content::List(items) => {
            let element = shape.get(0).unwrap_or(&serde_json::Value::Null);
            let items: Vec<Value> =
                items.iter().filter_map(|item| known_value(item, element)).collect();
            Some(Value::from(items))
        }
        Content::Map(entries) => {
            let free_form = shape.as_object().is_none_or(serde_json::Map::is_empty);
            let mut dict = Dict::new();
            for (key, child) in entries {
                let known = shape.get(&key.name);
                if known.is_none() && !free_form {
                    continue;
                }
                match known_value(child, known.unwrap_or(&serde_json::Value::Null)) {
                    Some(value) => dict.insert(key.name.clone(), value),
                    None => dict.remove(&key.name),
                };
            }
            Some(Value::from(dict))
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        Ok(Self { content: spanned.value, line, column })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        // Fields that hold fractions take whole numbers too.
        let whole = whole::from_float(value).map(Value::from);
        Ok(Content::Scalar(whole.unwrap_or_else(|| Value::from(value))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let (line, column) = (key.referenced.line(), key.referenced.column());
            entries.push((Key { name: key.value, line, column }, map.next_value()?));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests;
