//! What an answer is written in, as client and server agree on it.

use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap};

use super::error::ApiError;
use super::faults::Negotiation;
use super::protobuf;
use super::resource::TypeId;

/// A format of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Json,
    Protobuf,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) format: Format,
    /// Without `metadata.managedFields`.
    pub(super) drop: bool,
}

impl Encoding {
    /// Chooses by the `Accept` of a request, as a real server does: the first that fits, those with a higher `q` before others.
    /// Without a type, it is for an error or a document, which are there in both formats.
    pub(super) fn negotiate(
        headers: &HeaderMap,
        kind: Option<TypeId>,
        server: Negotiation,
    ) -> Result<Self, ApiError> {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        if accept.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::parse).collect();
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let protobuf = !server.json_only
            && kind.is_none_or(|kind| protobuf::of_kind(kind.get().kind).is_some());
        let chosen = clauses.iter().filter(|clause| clause.quality > 0.0).find_map(|clause| {
            if server.strict && clause.has_parameters {
                return None;
            }
            let format = match clause.media_type {
                "application/vnd.kubernetes.protobuf" if protobuf => Format::Protobuf,
                "application/json" | "application/*" | "*/*" => Format::Json,
                _ => return None,
            };
            Some(Self { format, drop: clause.drop && server.drops })
        });
        chosen.ok_or_else(|| {
            let message = "only the following media types are accepted: application/json";
            ApiError::new(406, "NotAcceptable", message)
        })
    }

    /// The content type of an object, list or error.
    pub(super) fn content_type(self) -> &'static str {
        match self.format {
            Format::Json => "application/json",
            Format::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The content type of a watch.
    pub(super) fn watch_content_type(self) -> &'static str {
        match self.format {
            Format::Json => "application/json",
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// An entry of `Accept`.
struct Clause<'a> {
    media_type: &'a str,
    quality: f64,
    drop: bool,
    /// Others than `q`.
    has_parameters: bool,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let mut clause = Self { media_type, quality: 1.0, drop: false, has_parameters: false };
        for part in parts {
            match part.split_once('=') {
                Some(("q", quality)) => clause.quality = quality.parse().unwrap_or_default(),
                Some(("drop", fields)) => {
                    clause.drop = fields.split('+').any(|field| field == "metadata.managedFields");
                    clause.has_parameters = true;
                }
                _ => clause.has_parameters = true,
            }
        }
        clause
    }
}

/// Whether a client takes compressed answers.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    codings.map(|coding| coding.split(';').next().unwrap_or("").trim()).any(|name| name == "gzip")
}

#[cfg(test)]
mod tests;
