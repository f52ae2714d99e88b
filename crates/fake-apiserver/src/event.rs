//! The events of a watch as they are sent: lines of JSON, or frames of protobuf.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use super::encoding::{Encoding, Format};
use super::error::ApiError;
use super::faults::FaultState;
use super::object::Object;
use super::protobuf;
use super::resource::TypeId;

/// Appends an event with an object.
pub(super) fn put(
    out: &mut BytesMut,
    event: &str,
    object: &Object,
    encoding: Encoding,
    faults: &mut FaultState,
) {
    let kind = object.kind.get();
    let bytes = object.encoded(encoding);
    let corrupt = faults.take_corruption(kind.plural);
    match encoding.format {
        Format::Json => {
            let mut line = line(event, bytes);
            if corrupt {
                line.truncate(line.len() / 2);
                line.push(b'\n');
            }
            out.put_slice(&line);
        }
        Format::Protobuf => {
            let wrapped = protobuf::wrap(&kind.api_version(), kind.kind, bytes);
            let mut frame = protobuf::frame(event, &wrapped);
            if corrupt {
                frame.truncate(frame.len() / 2);
                let length = u32::try_from(frame.len() - 4).unwrap_or_default();
                frame[..4].copy_from_slice(&length.to_be_bytes());
            }
            out.put_slice(&frame);
        }
    }
}

/// The error that ends a watch.
pub(super) fn error(error: &ApiError, encoding: Encoding) -> Vec<u8> {
    match encoding.format {
        Format::Json => line("ERROR", &error.to_json()),
        Format::Protobuf => {
            let status = protobuf::encode(&protobuf::STATUS, &error.to_status());
            protobuf::frame("ERROR", &protobuf::wrap("v1", "Status", &status))
        }
    }
}

/// An event in JSON.
fn line(event: &str, object: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(object.len() + 64);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(event.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line
}

/// A bookmark; `end` marks the end of the initial events.
pub(super) fn bookmark(kind: TypeId, version: u64, end: bool, encoding: Encoding) -> Vec<u8> {
    let kind = kind.get();
    let api_version = kind.api_version();
    let mut object = json!({
        "kind": kind.kind,
        "apiVersion": api_version,
        "metadata": {"resourceVersion": version.to_string()},
    });
    if end {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    // The empty values of the fields that have no `omitempty` in the API types.
    match kind.plural {
        "endpointslices" => {
            object["addressType"] = "".into();
            object["endpoints"] = Value::Null;
            object["ports"] = Value::Null;
        }
        "services" => {
            object["spec"] = json!({});
            object["status"] = json!({"loadBalancer": {}});
        }
        _ => {}
    }
    match (encoding.format, protobuf::of_kind(kind.kind)) {
        (Format::Protobuf, Some(message)) => {
            let encoded = protobuf::encode(message, &object);
            protobuf::frame("BOOKMARK", &protobuf::wrap(&api_version, kind.kind, &encoded))
        }
        _ => line("BOOKMARK", object.to_string().as_bytes()),
    }
}
