//! A configuration file as a tree that still knows where everything was written.
//!
//! Reading happens in two steps because one serde pass cannot do what is wanted here:
//! name *every* unknown and duplicate field, and point at line, column and path of a value of the wrong type.

use figment::value::{Dict, Value};
use kube_proxy_yaml::{Content, Node};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::types::{API_VERSION, KIND, KubeProxyConfiguration, VModule};
use super::whole;

/// Why a document cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Line and column, where known.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) reason: String,
}

impl Problem {
    fn new(node: Option<&Node>, reason: impl Into<String>) -> Self {
        Self { at: node.and_then(Node::place), reason: reason.into() }
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
    match root.find(&[field]) {
        Some(node) if node.as_text() == Some(expected) => Ok(()),
        Some(node) => Err(Problem::new(
            Some(node),
            format!("{field}: {expected:?} is expected, not {}", describe(node)),
        )),
        None => Err(Problem::new(None, format!("{field} is missing; {expected:?} is expected"))),
    }
}

fn describe(node: &Node) -> String {
    match &node.content {
        Content::Null => "null".to_owned(),
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "an object".to_owned(),
        content => scalar(content).map_or_else(String::new, |value| value.to_actual().to_string()),
    }
}

/// Every unknown or duplicate field, each with its path and place.
pub(crate) fn strict_errors(root: &Node) -> Vec<String> {
    let mut errors = Vec::new();
    collect_strict_errors(root, &shape(), "", &mut errors);
    errors
}

/// The known fields that are set: no unknown fields, no nulls, of duplicates the last.
pub(crate) fn known_fields(root: &Node) -> Dict {
    match known_value(root, &shape()) {
        Some(Value::Dict(_, dict)) => dict,
        _ => Dict::new(),
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
        Content::Null
        | Content::Bool(_)
        | Content::Integer(_)
        | Content::Float(_)
        | Content::Text(_) => scalar(&node.content),
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

/// The value for the layers of something that has no parts.
fn scalar(content: &Content) -> Option<Value> {
    match content {
        Content::Bool(value) => Some(Value::from(*value)),
        Content::Integer(value) => Some(integer(*value)),
        // Fields that hold fractions take whole numbers too.
        Content::Float(value) => {
            Some(whole::from_float(*value).map_or_else(|| Value::from(*value), Value::from))
        }
        Content::Text(text) => Some(Value::from(text.as_str())),
        Content::Null | Content::List(_) | Content::Map(_) => None,
    }
}

/// A number in the type that any field accepts, if it fits.
fn integer(value: i128) -> Value {
    let unsigned = u64::try_from(value).map(Value::from);
    let signed = || i64::try_from(value).map(Value::from);
    unsigned.or_else(|_| signed()).unwrap_or_else(|_| Value::from(value))
}

#[cfg(test)]
mod tests;
