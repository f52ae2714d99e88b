//! Answers of the server without a server, for tests of those who read them.

use serde_json::Value;

use super::{encode, envelope, frame, item_head, list_head, of_kind, wrap};

/// A list in protobuf, in its envelope. Kinds that are not served in protobuf have empty items.
pub fn protobuf_list(kind: &str, metadata: &Value, items: &[Value]) -> Vec<u8> {
    let mut list = list_head(metadata);
    for item in items {
        let item = protobuf_object(kind, item);
        list.extend_from_slice(&item_head(item.len()));
        list.extend_from_slice(&item);
    }
    let (head, tail) = envelope("v1", &format!("{kind}List"), list.len());
    [&head, list.as_slice(), tail].concat()
}

/// An event of a watch in protobuf, with its length before it.
pub fn protobuf_event(event: &str, kind: &str, object: &Value) -> Vec<u8> {
    frame(event, &wrap("v1", kind, &protobuf_object(kind, object)))
}

/// An object in protobuf, without an envelope.
pub fn protobuf_object(kind: &str, object: &Value) -> Vec<u8> {
    let message = if kind == "Status" { Some(&super::STATUS) } else { of_kind(kind) };
    message.map(|message| encode(message, object)).unwrap_or_default()
}
