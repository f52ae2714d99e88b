//! From the text of a file to objects.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube_proxy_core::{Event, Kind, ObjectName};
use serde::de::IntoDeserializer;
use serde_json::Value;

use super::fill::Fill;
use super::place::Places;
use super::yaml::yaml_options;
use crate::context::Context;
use crate::object::Object;
use crate::problem::{Findings, Problem, Subject};
use crate::slim;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The objects, in the order of the file.
    pub(super) objects: Vec<Loaded>,
    /// What is wrong with documents, not with objects.
    pub(super) problems: Vec<Problem>,
    /// Something could not be read, so objects may be missing.
    pub(super) broken: bool,
}

/// One object of a file.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
    /// What announces it; `None` if it is not to be proxied.
    pub(super) event: Option<Event>,
    pub(super) problems: Vec<Problem>,
    /// Which document of the file it comes from.
    pub(super) place: Arc<str>,
}

/// Reads the text of a file.
pub(super) fn parse(file: &Arc<Path>, text: &str, node_name: &str, context: &Context) -> Parsed {
    let mut parsed = Parsed::default();
    for (index, document) in split(text).into_iter().enumerate() {
        let number = index + 1;
        let subject = Subject::Document { file: file.clone(), document: number };
        let mut reader = Reader {
            file,
            number,
            document: &document,
            places: Places::new(document.text),
            node_name,
            context,
            findings: Findings::new(subject),
            parsed: &mut parsed,
        };
        reader.read();
        let problems = reader.findings.into_problems();
        parsed.problems.extend(problems);
    }
    parsed
}

/// A document of a file.
#[derive(Debug, PartialEq, Eq)]
struct Document<'t> {
    /// Lines of the file before it.
    lines_before: u64,
    text: &'t str,
}

/// Splits at lines that begin with `---`, and leaves out documents that contain nothing.
///
/// This is done before parsing so that an error in one document does not touch the next.
fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let (mut position, mut number) = (0, 0);
    for line in text.split_inclusive('\n') {
        if is_marker(line) {
            documents.push(Document { lines_before: start_line, text: &text[start..position] });
            (start, start_line) = (position, number);
        }
        position += line.len();
        number += 1;
    }
    documents.push(Document { lines_before: start_line, text: &text[start..] });
    documents.retain(|document| !is_empty(document.text));
    documents
}

/// A document begins here: `---`, alone or with something behind a blank.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.trim_end().is_empty() || rest.starts_with([' ', '\t']))
}

/// Nothing but markers, comments, directives and blank lines.
fn is_empty(document: &str) -> bool {
    document.lines().all(|line| {
        let bare = line.trim();
        bare.is_empty()
            || bare.starts_with('#')
            || line.starts_with('%')
            || matches!(bare, "---" | "...")
    })
}

/// Reads one document.
struct Reader<'r> {
    file: &'r Arc<Path>,
    number: usize,
    document: &'r Document<'r>,
    places: Places<'r>,
    node_name: &'r str,
    context: &'r Context,
    findings: Findings,
    parsed: &'r mut Parsed,
}

impl Reader<'_> {
    fn read(&mut self) {
        let text = self.document.text;
        let value: Value = match serde_saphyr::from_str_with_options(text, yaml_options(text)) {
            Ok(value) => value,
            Err(error) => return self.syntax_error(&error),
        };
        match value {
            Value::Null => {}
            Value::Object(_) => self.item(value, "", &Inherited::default()),
            _ => self.complain("", "", "not an object with apiVersion and kind"),
        }
    }

    fn syntax_error(&mut self, error: &serde_saphyr::Error) {
        let at = error.location().map(|l| (l.line(), l.column()));
        let reason = match error.without_snippet() {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("the field {key} stands there twice")
            }
            other => crate::decode::without_position(&other.to_string()),
        };
        let reason = reason.lines().next().unwrap_or_default();
        self.complain_at("", "", reason, at);
    }

    /// One object, or a list of them, at a path of the document.
    fn item(&mut self, value: Value, path: &str, inherited: &Inherited) {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let kind = text("kind").unwrap_or(&inherited.kind).to_owned();
        let version = text("apiVersion").unwrap_or(&inherited.version).to_owned();
        if kind.is_empty() {
            return self.complain(&join(path, "kind"), "", "missing");
        }
        let element = kind.strip_suffix("List");
        if let Some(element) = element
            && value.get("items").is_some_and(|items| items.is_array() || items.is_null())
        {
            let inherited = Inherited {
                kind: element.to_owned(),
                version: if element.is_empty() { String::new() } else { version },
            };
            return self.items(value, path, &inherited);
        }
        if matches!(
            element,
            Some("" | Service::KIND | EndpointSlice::KIND | Node::KIND | ServiceCIDR::KIND)
        ) && value.get("items").is_some()
        {
            return self.complain(&join(path, "items"), "", "not a list");
        }
        match (&*kind, &*version) {
            (Service::KIND, Service::API_VERSION) => self.object::<slim::Service<'_>>(&value, path),
            (EndpointSlice::KIND, EndpointSlice::API_VERSION) => {
                self.object::<slim::EndpointSlice<'_>>(&value, path);
            }
            (Node::KIND, Node::API_VERSION) => self.object::<slim::Node<'_>>(&value, path),
            (ServiceCIDR::KIND, ServiceCIDR::API_VERSION | "networking.k8s.io/v1beta1") => {
                self.object::<slim::ServiceCidr<'_>>(&value, path);
            }
            (Service::KIND | EndpointSlice::KIND | Node::KIND | ServiceCIDR::KIND, _) => {
                let reason = format!("not the apiVersion of a {kind}");
                self.complain(&join(path, "apiVersion"), &version, &reason);
            }
            _ => {
                let file = self.file.display();
                tracing::debug!(%file, document = self.number, kind, "not used by a proxy");
            }
        }
    }

    fn items(&mut self, mut list: Value, path: &str, inherited: &Inherited) {
        let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else {
            return;
        };
        for (i, item) in items.into_iter().enumerate() {
            let path = join(path, &format!("items[{i}]"));
            if item.is_object() {
                self.item(item, &path, inherited);
            } else if !item.is_null() {
                self.complain(&path, "", "not an object");
            }
        }
    }

    fn object<'a, T: Object<'a> + Fill<'a>>(&mut self, value: &'a Value, path: &str) {
        match serde_path_to_error::deserialize::<_, T>(value.into_deserializer()) {
            Ok(mut object) => {
                object.fill();
                self.take(&object, path);
            }
            Err(error) => {
                let field = join(path, &error.path().to_string());
                let reason = format!("{}{}", whose(value), error.inner());
                self.complain(&field, "", &reason);
            }
        }
    }

    fn take<'a, T: Object<'a> + Fill<'a>>(&mut self, object: &T, path: &str) {
        let name = object.name(self.context);
        if T::KIND == Kind::Node && *name.name != *self.node_name {
            return;
        }
        let (event, mut problems) = object.normalise(self.context);
        problems.extend(object.missing(&name));
        for problem in &mut problems {
            let at = self.places.find(&join(path, &problem.field));
            problem.place = Some(at.map_or_else(|| self.place(), |at| self.place_at(at)));
        }
        let place = self.place();
        self.parsed.objects.push(Loaded { kind: T::KIND, name, event, problems, place });
    }

    /// Something in the document cannot be understood, so that it is not known what it says.
    fn complain(&mut self, field: &str, value: &str, reason: &str) {
        let at = self.places.find(field);
        self.complain_at(field, value, reason, at);
    }

    fn complain_at(&mut self, field: &str, value: &str, reason: &str, at: Option<(u64, u64)>) {
        let place = at.map(|at| self.line_and_column(at).into());
        let reason = format_args!("{reason}; what this file said before stays");
        self.findings.add_at(field, value, reason, place);
        self.parsed.broken = true;
    }

    fn place(&self) -> Arc<str> {
        format!("{}, document {}", self.file.display(), self.number).into()
    }

    /// A line and column of the document, as a place in the file.
    fn place_at(&self, at: (u64, u64)) -> Arc<str> {
        format!("{}, {}", self.place(), self.line_and_column(at)).into()
    }

    fn line_and_column(&self, (line, column): (u64, u64)) -> String {
        let line = self.document.lines_before + line;
        format!("line {line}, column {column}")
    }
}

/// What the items of a `ServiceList` and the like need not repeat.
#[derive(Default)]
struct Inherited {
    kind: String,
    version: String,
}

fn join(path: &str, field: &str) -> String {
    match (path, field) {
        ("", _) => field.to_owned(),
        (_, "" | ".") => path.to_owned(),
        _ => format!("{path}.{field}"),
    }
}

/// `Service web: `, for objects that cannot be decoded, as far as they can be named.
fn whose(value: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let name = value.get("metadata").and_then(|m| m.get("name"));
    match text(name) {
        name if name.is_empty() => String::new(),
        name => format!("{} {name}: ", text(value.get("kind"))),
    }
}

#[cfg(test)]
mod tests;
