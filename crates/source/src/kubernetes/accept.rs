//! Which encodings the API server is asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::HeaderValue;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";
/// Asks a server of version 1.38 or later for objects without the longest field that nothing here reads (KEP-5958); others ignore it.
const DROP: &str = ";drop=metadata.managedFields";

/// The values of `Accept`, best first. When the server refuses one with 406, the next is used from then on.
#[derive(Debug)]
pub(super) struct Accept {
    choices: Vec<HeaderValue>,
    chosen: AtomicUsize,
}

impl Accept {
    /// From `clientConnection.contentType` and `clientConnection.acceptContentTypes`, of which the latter counts if it is set.
    pub(super) fn new(content_type: &str, accept_content_types: &str) -> Self {
        let asked = readable(accept_content_types);
        let mut choices = Vec::new();
        if !asked.is_empty() {
            choices.push(asked);
        } else if is(content_type, PROTOBUF) {
            choices.push(format!("{PROTOBUF}{DROP},{JSON}{DROP}"));
            choices.push(format!("{PROTOBUF},{JSON}"));
        } else {
            choices.push(format!("{JSON}{DROP}"));
        }
        if choices.last().is_some_and(|last| last != JSON) {
            choices.push(JSON.to_owned());
        }
        warn_if_unread(content_type, accept_content_types);
        // A text that cannot stand in a header would not have been readable.
        let choices = choices.iter().filter_map(|text| HeaderValue::from_str(text).ok()).collect();
        Self { choices, chosen: AtomicUsize::new(0) }
    }

    /// The value to send, and which one it is.
    pub(super) fn current(&self) -> (usize, HeaderValue) {
        let chosen = self.chosen.load(Ordering::Relaxed);
        let value = self.choices.get(chosen).cloned();
        (chosen, value.unwrap_or(HeaderValue::from_static(JSON)))
    }

    /// The server refused one of the values; whether there is another to try.
    pub(super) fn refused(&self, index: usize) -> bool {
        if index + 1 >= self.choices.len() {
            return false;
        }
        let taken =
            self.chosen.compare_exchange(index, index + 1, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_ok() {
            let (refused, next) = (&self.choices[index], &self.choices[index + 1]);
            tracing::info!("content type refused by the server: {refused:?}; asking for {next:?}");
        }
        true
    }
}

/// The part of a list of content types that we can read, as it was written.
fn readable(list: &str) -> String {
    let kept = list.split(',').map(str::trim).filter(|entry| {
        let readable =
            [PROTOBUF, JSON, "application/*", "*/*"].iter().any(|known| is(entry, known));
        readable && HeaderValue::from_str(entry).is_ok()
    });
    kept.collect::<Vec<_>>().join(",")
}

/// Whether an entry of a list is of a type, whatever its parameters.
fn is(entry: &str, media_type: &str) -> bool {
    entry.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type))
}

fn warn_if_unread(content_type: &str, accept_content_types: &str) {
    let entries = accept_content_types.split(',').chain([content_type]).map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty() && readable(entry).is_empty()) {
        tracing::warn!("content type is not supported and not asked for: {entry:?}");
    }
}

#[cfg(test)]
mod tests;
