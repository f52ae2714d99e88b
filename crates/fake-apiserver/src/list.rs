//! Lists: consistent views, page by page, as a stream of serialized objects.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use super::collection::View;
use super::encoding::{Encoding, Format};
use super::error::ApiError;
use super::object::{Object, prefix};
use super::protobuf;
use super::query::{ListOptions, PageToken, VersionMatch};
use super::resource::{ResourceType, TypeId};
use super::selector::Selector;
use super::store::Store;

/// Bytes after which a chunk of a body is handed to the connection.
pub(super) const CHUNK: usize = 64 * 1024;

/// The answer to a list: an iterator over the chunks of its body.
#[derive(Debug)]
pub(super) struct ListBody {
    encoding: Encoding,
    /// What a list item in JSON does not have of the stored bytes.
    prefix_length: usize,
    head: Vec<u8>,
    items: std::vec::IntoIter<Arc<Object>>,
    tail: &'static [u8],
    /// Whether an item was written.
    begun: bool,
    done: bool,
}

/// Selects the objects of one page.
pub(super) fn list(
    store: &mut Store,
    kind: TypeId,
    selector: &Selector,
    options: &ListOptions,
    encoding: Encoding,
) -> Result<ListBody, ApiError> {
    validate(options)?;
    let (view, version) = choose_view(store, kind, options)?;
    let offset = options.token.map_or(0, |token| token.offset).min(view.len());
    // As with the watch cache of a real server, "any version" comes without paging.
    let limit = options.limit.filter(|_| options.version != Some(0) || options.token.is_some());
    let mut items = Vec::new();
    let mut end = view.len();
    for (at, object) in view.iter().enumerate().skip(offset) {
        if selector.matches(object) {
            if limit == Some(items.len()) {
                end = at;
                break;
            }
            items.push(Arc::clone(object));
        }
    }
    let mut metadata = next_page(&view, version, end, selector);
    metadata["resourceVersion"] = version.to_string().into();
    Ok(ListBody::new(kind.get(), &metadata, items, encoding))
}

/// The list metadata that announces a next page; empty behind the last one.
fn next_page(view: &View, version: u64, end: usize, selector: &Selector) -> Value {
    if end == view.len() {
        return json!({});
    }
    let token = PageToken { version, offset: end }.encode();
    if selector.selects_by_content() {
        return json!({"continue": token});
    }
    let remaining = view[end..].iter().filter(|object| selector.matches(object)).count();
    json!({"continue": token, "remainingItemCount": remaining})
}

impl ListBody {
    fn new(
        kind: &ResourceType,
        metadata: &Value,
        items: Vec<Arc<Object>>,
        encoding: Encoding,
    ) -> Self {
        let (list_kind, api_version) = (format!("{}List", kind.kind), kind.api_version());
        let (head, tail) = match encoding.format {
            Format::Json => {
                let head = format!(
                    r#"{{"kind":"{list_kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#
                );
                (head.into_bytes(), b"]}\n".as_slice())
            }
            Format::Protobuf => {
                let metadata = protobuf::list_head(metadata);
                let lengths = items.iter().map(|item| item.encoded(encoding).len());
                let items: usize = lengths.map(|l| protobuf::item_head(l).len() + l).sum();
                let length = metadata.len() + items;
                let (mut head, tail) = protobuf::envelope(&api_version, &list_kind, length);
                head.extend_from_slice(&metadata);
                (head, tail)
            }
        };
        Self {
            encoding,
            prefix_length: prefix(kind).len(),
            head,
            items: items.into_iter(),
            tail,
            begun: false,
            done: false,
        }
    }

    /// About how many bytes are left.
    pub(super) fn length(&self) -> usize {
        let items = self.items.as_slice().iter();
        self.head.len() + items.map(|item| item.encoded(self.encoding).len()).sum::<usize>()
    }

    fn put_item(&mut self, object: &Object, out: &mut BytesMut) {
        let bytes = object.encoded(self.encoding);
        match self.encoding.format {
            Format::Protobuf => {
                out.put_slice(&protobuf::item_head(bytes.len()));
                out.put_slice(bytes);
            }
            Format::Json => {
                // Items have no kind and apiVersion.
                out.put_slice(if std::mem::replace(&mut self.begun, true) { b",{" } else { b"{" });
                out.put_slice(&bytes[self.prefix_length..]);
            }
        }
    }
}

impl Iterator for ListBody {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK + CHUNK / 8);
        chunk.put_slice(&std::mem::take(&mut self.head));
        while chunk.len() < CHUNK {
            let Some(object) = self.items.next() else {
                chunk.put_slice(self.tail);
                self.done = true;
                break;
            };
            self.put_item(&object, &mut chunk);
        }
        Some(chunk.freeze())
    }
}

fn validate(options: &ListOptions) -> Result<(), ApiError> {
    if options.send_initial_events.is_some() {
        let why = "sendInitialEvents is forbidden for list";
        return Err(ApiError::invalid_option("sendInitialEvents", "Forbidden", why));
    }
    if options.version_match != VersionMatch::Unset && options.version.is_none() {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why));
    }
    if options.version_match == VersionMatch::Exact && options.version == Some(0) {
        let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        return Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why));
    }
    if options.token.is_some() && options.version.is_some_and(|version| version > 0) {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    Ok(())
}

/// The view that the options ask for, and the resourceVersion to write on it.
fn choose_view(
    store: &mut Store,
    kind: TypeId,
    options: &ListOptions,
) -> Result<(View, u64), ApiError> {
    if let Some(token) = options.token {
        let view = store.view_at(kind, token.version).map_err(|_| {
            let message = "The provided continue parameter is too old to display a consistent \
                 list result. Start a new list without the continue parameter.";
            ApiError::new(410, "Expired", message)
        })?;
        return Ok((view, token.version));
    }
    let asked = options.version.filter(|version| *version > 0);
    if let Some(asked) = asked
        && asked > store.version()
    {
        return Err(ApiError::too_large(asked, store.version()));
    }
    // A page limit with a version and without a match is the old way to ask for exactly that version.
    let exact = match options.version_match {
        VersionMatch::Exact => true,
        VersionMatch::NotOlderThan => false,
        VersionMatch::Unset => options.limit.is_some(),
    };
    match asked.filter(|_| exact) {
        Some(asked) => Ok((store.view_at(kind, asked)?, asked)),
        None => Ok(store.view(kind)),
    }
}
