//! The Kubernetes API in Protocol Buffers: from JSON values to bytes.
//!
//! The server stores whatever JSON it is given, also objects that a real server would refuse.
//! A value of the wrong type is therefore written as a value of the wrong wire type, so that such an object is as broken as in JSON.

mod samples;
mod schema;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use samples::{protobuf_event, protobuf_list, protobuf_object};
use schema::{Field, LIST_META, Presence, Type};
pub(super) use schema::{Message, STATUS, of_kind};

/// What every object and list begins with.
const MAGIC: &[u8] = b"k8s\0";

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

/// Encodes an object as a message.
pub(super) fn encode(message: &Message, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let empty = Map::new();
    put_message(&mut out, message, object.as_object().unwrap_or(&empty));
    out
}

/// What stands around an encoded object or list of `length` bytes: before it, and behind it.
pub(super) fn envelope(api_version: &str, kind: &str, length: usize) -> (Vec<u8>, &'static [u8]) {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut head = MAGIC.to_vec();
    put_bytes(&mut head, 1, &type_meta);
    put_tag(&mut head, 2, BYTES);
    put_varint(&mut head, length as u64);
    // The last two fields are empty texts: contentEncoding and contentType.
    (head, &[0x1a, 0, 0x22, 0])
}

/// An object in its envelope.
pub(super) fn wrap(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let (head, tail) = envelope(api_version, kind, object.len());
    [&head, object, tail].concat()
}

/// An event of a watch, with the length before it, whose object is in its envelope.
pub(super) fn frame(event: &str, wrapped: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(wrapped.len() + 8);
    put_bytes(&mut raw, 1, wrapped);
    let mut message = Vec::with_capacity(raw.len() + 32);
    put_bytes(&mut message, 1, event.as_bytes());
    put_bytes(&mut message, 2, &raw);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), message.as_slice()].concat()
}

/// The metadata of a list, as a field of it.
pub(super) fn list_head(metadata: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &encode(&LIST_META, metadata));
    out
}

/// What stands before an item of a list.
pub(super) fn item_head(length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_tag(&mut out, 2, BYTES);
    put_varint(&mut out, length as u64);
    out
}

fn put_message(out: &mut Vec<u8>, message: &Message, object: &Map<String, Value>) {
    for field in message.0 {
        let value = object.get(field.name).filter(|value| !value.is_null());
        match (field.presence, value) {
            (Presence::Repeated, Some(Value::Array(elements))) => {
                for element in elements {
                    put_value(out, field, element);
                }
            }
            (Presence::Repeated, Some(other)) => put_wrong(out, field, other),
            (_, Some(value)) => put_value(out, field, value),
            (Presence::Always, None) => put_value(out, field, &Value::Null),
            (_, None) => {}
        }
    }
}

/// Writes one value; null is the empty one.
fn put_value(out: &mut Vec<u8>, field: &Field, value: &Value) {
    let number = field.number;
    match (field.type_, value) {
        (Type::Text | Type::Time, Value::Null) => put_bytes(out, number, b""),
        (Type::Text | Type::Number, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Type::Number | Type::Flag, Value::Null) => put_number(out, number, 0),
        (Type::Text | Type::Number, Value::Number(given)) => match whole(given) {
            Some(given) => put_number(out, number, given),
            None => put_wrong(out, field, value),
        },
        (Type::Flag, Value::Bool(flag)) => put_number(out, number, (*flag).into()),
        (Type::Message(message), Value::Null) => put_bytes(out, number, &encode(message, value)),
        (Type::Message(message), Value::Object(_)) => {
            put_bytes(out, number, &encode(message, value));
        }
        (Type::Time, Value::String(text)) => put_time(out, number, text),
        (Type::Map, Value::Object(entries)) => entries.iter().for_each(|(key, value)| {
            put_entry(out, field, key, value, |out, text| put_bytes(out, 2, text.as_bytes()));
        }),
        (Type::Quantities, Value::Object(entries)) => entries.iter().for_each(|(key, value)| {
            put_entry(out, field, key, value, |out, text| {
                let mut quantity = Vec::new();
                put_bytes(&mut quantity, 1, text.as_bytes());
                put_bytes(out, 2, &quantity);
            });
        }),
        (Type::IntOrString, _) => put_bytes(out, number, &int_or_string(value)),
        (Type::Json, _) => {
            let mut raw = Vec::new();
            put_bytes(&mut raw, 1, value.to_string().as_bytes());
            put_bytes(out, number, &raw);
        }
        _ => put_wrong(out, field, value),
    }
}

fn put_entry(
    out: &mut Vec<u8>,
    field: &Field,
    key: &str,
    value: &Value,
    put: impl Fn(&mut Vec<u8>, &str),
) {
    let mut entry = Vec::new();
    put_bytes(&mut entry, 1, key.as_bytes());
    match value {
        Value::String(text) => put(&mut entry, text),
        other => put_wrong(&mut entry, &Field { number: 2, ..*field }, other),
    }
    put_bytes(out, field.number, &entry);
}

/// A value that does not fit the field: a number where it is one, else of a wire type that no field has.
fn put_wrong(out: &mut Vec<u8>, field: &Field, value: &Value) {
    match value {
        Value::Number(number) if !matches!(field.type_, Type::Number | Type::Flag) => {
            put_number(out, field.number, whole(number).unwrap_or_default());
        }
        _ => {
            put_tag(out, field.number, FIXED64);
            out.extend_from_slice(&[0; 8]);
        }
    }
}

/// A whole number; what does not fit is the nearest that does.
fn whole(number: &serde_json::Number) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "`as` gives the nearest number that fits")]
    let nearest = |float: f64| (float.fract() == 0.0).then_some(float as i64);
    let large = number.as_u64().map(|_| i64::MAX);
    number.as_i64().or(large).or_else(|| number.as_f64().and_then(nearest))
}

fn int_or_string(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let text = value.as_str();
    put_number(&mut out, 1, text.is_some().into());
    put_number(&mut out, 2, value.as_i64().unwrap_or_default());
    put_bytes(&mut out, 3, text.unwrap_or_default().as_bytes());
    out
}

/// A time as seconds since 1970, from RFC 3339 in UTC; a text that is no time becomes 1970.
fn put_time(out: &mut Vec<u8>, number: u32, text: &str) {
    let seconds = text.parse().map_or(0, Timestamp::as_second);
    let mut time = Vec::new();
    put_number(&mut time, 1, seconds);
    put_number(&mut time, 2, 0);
    put_bytes(out, number, &time);
}

fn put_number(out: &mut Vec<u8>, field: u32, number: i64) {
    put_tag(out, field, VARINT);
    put_varint(out, number.cast_unsigned());
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u64) {
    put_varint(out, u64::from(field) << 3 | wire_type);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests;
