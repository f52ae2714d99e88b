//! Responses: heads, bodies, compression.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::encoding::{Encoding, Format};
use super::error::ApiError;
use super::list::ListBody;
use super::protobuf;

/// Lists from this size on are compressed if the client takes it, as in a real server.
const COMPRESSED_FROM: usize = 128 * 1024;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A complete body.
pub(super) fn full(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    with_head(status, content_type, body)
}

/// A JSON document.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    full(status, "application/json", Bytes::from(value.to_string()))
}

/// An error.
pub(super) fn error(error: &ApiError, encoding: Encoding) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match encoding.format {
        Format::Json => error.to_json(),
        Format::Protobuf => {
            let encoded = protobuf::encode(&protobuf::STATUS, &error.to_status());
            Bytes::from(protobuf::wrap("v1", "Status", &encoded))
        }
    };
    full(status, encoding.content_type(), body)
}

/// A list, compressed if it is long and the client takes it.
pub(super) fn list(body: ListBody, encoding: Encoding, gzip: bool) -> Response<Body> {
    let content_type = encoding.content_type();
    if !gzip || body.length() < COMPRESSED_FROM {
        return streamed(
            content_type,
            futures::stream::iter(body.map(|chunk| Ok(Frame::data(chunk)))),
        );
    }
    let chunks =
        Compressed { list: Some(body), encoder: GzEncoder::new(Vec::new(), Compression::fast()) };
    let chunks = chunks.map(|chunk| chunk.map(Frame::data));
    let mut response = streamed(content_type, futures::stream::iter(chunks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A body that is made while it is sent.
pub(super) fn streamed(
    content_type: &'static str,
    chunks: impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static,
) -> Response<Body> {
    with_head(StatusCode::OK, content_type, StreamBody::new(chunks).boxed_unsync())
}

fn with_head(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

/// The chunks of a list, compressed.
struct Compressed {
    /// `None` when all of it was compressed.
    list: Option<ListBody>,
    encoder: GzEncoder<Vec<u8>>,
}

impl Compressed {
    fn step(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(list) = &mut self.list {
            if let Some(chunk) = list.next() {
                self.encoder.write_all(&chunk)?;
            } else {
                self.list = None;
                self.encoder.try_finish()?;
            }
            let out = std::mem::take(self.encoder.get_mut());
            if !out.is_empty() {
                return Ok(Some(Bytes::from(out)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Compressed {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.step().transpose()
    }
}
