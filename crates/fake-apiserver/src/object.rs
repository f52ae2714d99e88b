//! One stored object: its serialized form and what selectors need of it.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use super::encoding::{Encoding, Format};
use super::protobuf;
use super::resource::{ResourceType, TypeId};

/// What follows the type's prefix: the start of the metadata, up to the digits of the resourceVersion.
const METADATA: &str = r#""metadata":{"resourceVersion":""#;

/// One version of an object; never changes.
#[derive(Debug)]
pub(super) struct Object {
    /// The type.
    pub(super) kind: TypeId,
    /// The namespace; empty for cluster-scoped types.
    pub(super) namespace: Box<str>,
    /// The name.
    pub(super) name: Box<str>,
    /// The resourceVersion of this version.
    pub(super) version: u64,
    /// Labels, in any order.
    labels: Box<[(Box<str>, Box<str>)]>,
    /// The values of [`ResourceType::indexed`], in that order.
    fields: Box<[Box<str>]>,
    /// The object as JSON: the type's prefix, metadata with the resourceVersion first, the rest.
    json: Bytes,
    /// The other encodings, made when they are first asked for.
    others: [OnceLock<Bytes>; 3],
}

impl Object {
    /// Serializes an object, whose metadata must hold the name and must not hold a resourceVersion.
    pub(super) fn encode(
        kind: TypeId,
        namespace: &str,
        name: &str,
        version: u64,
        mut object: Map<String, Value>,
    ) -> Self {
        let labels = labels_of(&object);
        let fields = kind.get().indexed.iter().map(|path| field_of(&object, path).into()).collect();
        object.remove("kind");
        object.remove("apiVersion");
        let metadata = object.remove("metadata").unwrap_or_else(|| Value::Object(Map::new()));
        let json = encode_json(kind.get(), version, &metadata, object);
        let others = Default::default();
        let (namespace, name) = (namespace.into(), name.into());
        Self { kind, namespace, name, version, labels, fields, json, others }
    }

    /// The same content under another resourceVersion.
    pub(super) fn with_version(&self, version: u64) -> Self {
        let mut json = BytesMut::with_capacity(self.json.len() + 4);
        json.put_slice(prefix(self.kind.get()).as_bytes());
        json.put_slice(METADATA.as_bytes());
        json.put_slice(version.to_string().as_bytes());
        json.put_slice(self.content());
        Self {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            version,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            json: json.freeze(),
            others: Default::default(),
        }
    }

    /// The complete JSON, with kind and apiVersion.
    pub(super) fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON from behind the digits of the resourceVersion to the end.
    pub(super) fn content(&self) -> &[u8] {
        let digits = self.version.checked_ilog10().unwrap_or(0) as usize + 1;
        &self.json[prefix(self.kind.get()).len() + METADATA.len() + digits..]
    }

    /// The object in an encoding: complete JSON, or a message without its envelope. Like a real server, it encodes an object once.
    pub(super) fn encoded(&self, encoding: Encoding) -> &Bytes {
        let slot = match (encoding.format, encoding.drop) {
            (Format::Json, false) => return &self.json,
            (Format::Json, true) => &self.others[0],
            (Format::Protobuf, false) => &self.others[1],
            (Format::Protobuf, true) => &self.others[2],
        };
        slot.get_or_init(|| self.encode_other(encoding))
    }

    fn encode_other(&self, encoding: Encoding) -> Bytes {
        let mut value = self.to_value();
        if encoding.drop
            && let Some(metadata) = value["metadata"].as_object_mut()
        {
            metadata.remove("managedFields");
        }
        let kind = self.kind.get();
        if let (Format::Protobuf, Some(message)) = (encoding.format, protobuf::of_kind(kind.kind)) {
            return Bytes::from(protobuf::encode(message, &value));
        }
        let Value::Object(mut object) = value else { return self.json.clone() };
        object.remove("kind");
        object.remove("apiVersion");
        let mut metadata = object.remove("metadata").unwrap_or_default();
        metadata.as_object_mut().and_then(|metadata| metadata.remove("resourceVersion"));
        encode_json(kind, self.version, &metadata, object)
    }

    /// The object as a JSON value.
    pub(super) fn to_value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the bytes were made by serializing a value")
    }

    /// The value of a label.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
    }

    /// The value of a field by its dotted path; empty when it is not set.
    pub(super) fn field(&self, path: &str) -> String {
        match path {
            "metadata.name" => return self.name.to_string(),
            "metadata.namespace" => return self.namespace.to_string(),
            _ => {}
        }
        match self.kind.get().indexed.iter().position(|p| *p == path) {
            Some(at) => self.fields[at].to_string(),
            None => self.to_value().as_object().map_or_else(String::new, |o| field_of(o, path)),
        }
    }
}

/// What the JSON of each object of a type begins with: `{"kind":"Service","apiVersion":"v1",`.
pub(super) fn prefix(kind: &ResourceType) -> String {
    format!(r#"{{"kind":"{}","apiVersion":"{}","#, kind.kind, kind.api_version())
}

/// The key in a collection: `namespace/name`, so that a namespace is one range.
pub(super) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn encode_json(
    kind: &ResourceType,
    version: u64,
    metadata: &Value,
    rest: Map<String, Value>,
) -> Bytes {
    let metadata = metadata.to_string();
    let rest = Value::Object(rest).to_string();
    let mut json = Vec::with_capacity(metadata.len() + rest.len() + 128);
    json.extend_from_slice(prefix(kind).as_bytes());
    json.extend_from_slice(METADATA.as_bytes());
    json.extend_from_slice(version.to_string().as_bytes());
    json.push(b'"');
    push_members(&mut json, &metadata);
    push_members(&mut json, &rest);
    json.shrink_to_fit();
    Bytes::from(json)
}

/// Appends `,members}` of a serialized object, or only the brace when it is empty.
fn push_members(json: &mut Vec<u8>, object: &str) {
    if object.len() > 2 {
        json.push(b',');
    }
    json.extend_from_slice(&object.as_bytes()[1..]);
}

fn labels_of(object: &Map<String, Value>) -> Box<[(Box<str>, Box<str>)]> {
    let labels = object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into()))).collect()
}

/// A field as the text that a field selector compares.
fn field_of(object: &Map<String, Value>, path: &str) -> String {
    let mut steps = path.split('.');
    let first = steps.next().and_then(|step| object.get(step));
    match steps.try_fold(first, |value, step| value.map(|v| v.get(step))) {
        Some(Some(Value::String(text))) => text.clone(),
        Some(Some(value @ (Value::Bool(_) | Value::Number(_)))) => value.to_string(),
        _ => String::new(),
    }
}
