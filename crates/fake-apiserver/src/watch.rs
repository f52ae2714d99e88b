//! Watches: a stream of lines, each an event with an object.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::collection::{Change, ChangeKind, View};
use super::encoding::Encoding;
use super::error::ApiError;
use super::event;
use super::faults::StreamingLists;
use super::list::CHUNK;
use super::object::Object;
use super::query::{ListOptions, VersionMatch};
use super::resource::TypeId;
use super::selector::Selector;
use super::shared::Shared;

/// How many changes are looked at before the store is unlocked for others.
const CHANGES_AT_ONCE: usize = 256;

/// One open watch.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    wake: Receiver<u64>,
    kind: TypeId,
    encoding: Encoding,
    selector: Selector,
    /// Everything up to this resourceVersion was seen.
    position: u64,
    /// What is to be sent before the changes.
    initial: Option<InitialEvents>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// The generation of [`FaultState::watch_generation`] this watch belongs to.
    generation: u64,
    /// An error is sent once, then the stream ends.
    error: Option<ApiError>,
    ended: bool,
}

/// The objects that a watch begins with.
#[derive(Debug)]
struct InitialEvents {
    view: View,
    sent: usize,
    /// Whether a bookmark marks their end.
    mark_end: bool,
}

impl Watch {
    /// Opens a watch; an error is the answer to the request, unless it belongs into the stream.
    pub(super) fn open(
        shared: &Arc<Shared>,
        kind: TypeId,
        selector: Selector,
        options: &ListOptions,
        encoding: Encoding,
    ) -> Result<Self, ApiError> {
        let (streaming_lists, generation) = {
            let faults = shared.faults();
            (faults.streaming_lists, faults.watch_generation)
        };
        let streaming = validate(options, streaming_lists)?;
        // Subscribing before looking: a change in between wakes us once more than needed.
        let wake = shared.subscribe();
        let mut store = shared.store();
        let asked = options.version.filter(|version| *version > 0);
        let from_state = streaming.unwrap_or(asked.is_none());
        let mut position = asked.unwrap_or(store.version());
        let mut error = None;
        let mut initial = None;
        if from_state {
            let (view, version) = store.view(kind);
            position = version;
            initial = Some(InitialEvents { view, sent: 0, mark_end: streaming == Some(true) });
        } else if asked.is_some() {
            error = store.check_watchable(kind, position).err();
        }
        drop(store);
        shared.watch_opened(kind);
        let now = Instant::now();
        let timeout =
            options.timeout_seconds.map_or(shared.options.watch_timeout, Duration::from_secs);
        Ok(Self {
            shared: Arc::clone(shared),
            wake,
            kind,
            encoding,
            selector,
            position,
            initial,
            bookmarks: options.bookmarks,
            next_bookmark: now + shared.options.bookmark_interval,
            deadline: now + timeout,
            generation,
            error,
            ended: false,
        })
    }

    /// Waits for the next chunk of the body; `None` is the end, an error breaks the connection.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            self.wake.borrow_and_update();
            let (generation, stalled) = {
                let faults = self.shared.faults();
                (faults.watch_generation, faults.stalled)
            };
            if generation != self.generation {
                return Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
            }
            if stalled {
                self.wake.changed().await.ok()?;
                continue;
            }
            if self.ended {
                return None;
            }
            let chunk = self.ready_chunk();
            if !chunk.is_empty() {
                return Some(Ok(chunk.freeze()));
            }
            if self.ended {
                return None;
            }
            let until = if self.bookmarks { self.next_bookmark } else { self.deadline };
            tokio::select! {
                changed = self.wake.changed() => changed.ok()?,
                () = tokio::time::sleep_until(until.min(self.deadline)) => {}
            }
        }
    }

    /// All lines that can be sent now, up to about one chunk.
    fn ready_chunk(&mut self) -> BytesMut {
        let mut chunk = BytesMut::new();
        if self.initial.is_some() {
            self.put_initial_events(&mut chunk);
            return chunk;
        }
        while chunk.len() < CHUNK && self.error.is_none() {
            let before = self.position;
            self.put_changes(&mut chunk);
            if self.position == before {
                break;
            }
        }
        if chunk.is_empty() {
            self.put_timed(&mut chunk);
        }
        chunk
    }

    fn put_initial_events(&mut self, out: &mut BytesMut) {
        let Some(initial) = &mut self.initial else { return };
        let mut faults = self.shared.faults();
        while out.len() < CHUNK {
            let Some(object) = initial.view.get(initial.sent) else {
                if initial.mark_end {
                    out.put_slice(&event::bookmark(self.kind, self.position, true, self.encoding));
                }
                self.initial = None;
                return;
            };
            initial.sent += 1;
            if self.selector.matches(object) {
                event::put(out, "ADDED", object, self.encoding, &mut faults);
            }
        }
    }

    fn put_changes(&mut self, out: &mut BytesMut) {
        let shared = &self.shared;
        let store = shared.store();
        let mut faults = shared.faults();
        let seen = store.changes_after(self.kind, self.position, CHANGES_AT_ONCE, |change| {
            if let Some((event, object)) = seen_through(&self.selector, change) {
                event::put(out, event, &object, self.encoding, &mut faults);
            }
        });
        match seen {
            Ok(position) => self.position = position,
            Err(error) => self.error = Some(error),
        }
    }

    /// What is sent because of the time or an error: the end, or a bookmark.
    fn put_timed(&mut self, out: &mut BytesMut) {
        let now = Instant::now();
        if let Some(error) = &self.error {
            out.put_slice(&event::error(error, self.encoding));
            self.ended = true;
            return;
        }
        self.ended = now >= self.deadline;
        if self.bookmarks && (self.ended || now >= self.next_bookmark) {
            self.next_bookmark = now + self.shared.options.bookmark_interval;
            out.put_slice(&event::bookmark(self.kind, self.position, false, self.encoding));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.watch_closed(self.kind);
    }
}

/// Checks the options of a watch; returns the value of `sendInitialEvents` that counts.
fn validate(options: &ListOptions, mode: StreamingLists) -> Result<Option<bool>, ApiError> {
    let field = "sendInitialEvents";
    let version_match = options.version_match;
    match (mode, options.send_initial_events) {
        (StreamingLists::Served, None) if version_match != VersionMatch::Unset => {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why))
        }
        (StreamingLists::Refused, None) if version_match != VersionMatch::Unset => {
            let why = "resourceVersionMatch is forbidden for watch";
            Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why))
        }
        (StreamingLists::Ignored, _) | (_, None) => Ok(None),
        (StreamingLists::Refused, Some(_)) => {
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            Err(ApiError::invalid_option(field, "Forbidden", why))
        }
        (StreamingLists::Served, Some(_)) if version_match != VersionMatch::NotOlderThan => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            Err(ApiError::invalid_option("resourceVersionMatch", "Forbidden", why))
        }
        (StreamingLists::Served, Some(wanted)) => Ok(Some(wanted)),
    }
}

/// How a change looks to a watcher with a selector: an object that begins to match was added, one that ceases was deleted.
fn seen_through(selector: &Selector, change: &Change) -> Option<(&'static str, Arc<Object>)> {
    let before = change.previous.as_ref().filter(|previous| selector.matches(previous));
    let after = change.kind != ChangeKind::Deleted && selector.matches(&change.object);
    match (before, after) {
        (None, false) => None,
        (None, true) => Some(("ADDED", Arc::clone(&change.object))),
        (Some(_), true) => Some(("MODIFIED", Arc::clone(&change.object))),
        (Some(_), false) if change.kind == ChangeKind::Deleted => {
            Some(("DELETED", Arc::clone(&change.object)))
        }
        (Some(previous), false) => {
            Some(("DELETED", Arc::new(previous.with_version(change.object.version))))
        }
    }
}
