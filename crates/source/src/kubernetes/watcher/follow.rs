//! Reading a watch.

use super::{End, SHORT_WATCH, Watcher};
use crate::decode::{self, Format, WatchEvent};
use crate::kubernetes::api::Chunks;
use crate::kubernetes::events::Events;
use crate::kubernetes::failure::Failure;

impl Watcher {
    /// Reads a watch to its end. `listing`: its initial events are a list that is not complete yet.
    pub(super) async fn follow(&mut self, chunks: Chunks, listing: bool) -> Result<(), End> {
        if !listing {
            self.state.begin_watch();
        }
        let result = self.read(chunks, listing).await;
        if self.state.has_lasted(SHORT_WATCH) && !matches!(result, Err(End::Gone(_))) {
            self.watch_works();
        }
        result
    }

    async fn read(&mut self, mut chunks: Chunks, mut listing: bool) -> Result<(), End> {
        let mut silent = true;
        let format = chunks.format;
        let mut events = Events::new(format);
        let mut outdated = std::pin::pin!(chunks.outdated());
        loop {
            let timing = &self.shared.timing;
            let limit = if listing { timing.initial_events } else { timing.stall };
            let next = tokio::select! {
                next = chunks.next(limit) => next,
                // A list is worth more than the new certificate.
                () = &mut outdated, if !listing => return Err(End::Continue),
            };
            let chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) if events.has_rest() => {
                    let cut = "the answer ends in the middle of an event".to_owned();
                    return Err(Failure::Malformed(cut).into());
                }
                Ok(None) if listing => return Err(End::Failed(Failure::Closed)),
                Ok(None) if silent && !self.state.has_lasted(SHORT_WATCH) => {
                    return Err(End::Failed(Failure::Closed));
                }
                Ok(None) => return Err(End::Continue),
                Err(Failure::Timeout(_)) if listing => {
                    return Err(End::NoStreaming("the server does not end them"));
                }
                Err(Failure::Timeout(limit)) => {
                    tracing::debug!(kind = %self.kind, ?limit, "the watch is stalled; resuming it");
                    return Err(End::Continue);
                }
                Err(failure) => return Err(failure.into()),
            };
            silent = false;
            self.shared.status.contact(self.kind);
            let too_long = |_| Failure::Malformed("a watch event is too long".to_owned());
            events.push(&chunk).map_err(too_long)?;
            while let Some(event) = events.next().map_err(too_long)? {
                listing = self.take_event(format, event, listing)?;
            }
        }
    }

    /// Acts on one event of a watch; whether the list is still not complete.
    fn take_event(&mut self, format: Format, event: &[u8], listing: bool) -> Result<bool, End> {
        let event = decode::watch_event(format, self.kind, event, &self.shared.context)
            .map_err(|e| Failure::Malformed(format!("a watch event of {}s: {e}", self.kind)))?;
        let version = match event {
            WatchEvent::Applied(object, version) => {
                self.take(object);
                version
            }
            WatchEvent::Deleted(name, version) => {
                self.delete(name);
                version
            }
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                if listing && !initial_events_end {
                    return Err(End::NoStreaming("the server does not mark their end"));
                }
                if listing && resource_version.is_empty() {
                    let missing = "the end of a streaming list has no resourceVersion";
                    return Err(Failure::Malformed(missing.to_owned()).into());
                }
                if listing {
                    self.done();
                    self.listed_at(resource_version);
                    return Ok(false);
                }
                resource_version
            }
            WatchEvent::Error(status) => return Err(Failure::Status(status).into()),
            WatchEvent::Unknown(type_) => {
                tracing::debug!(kind = %self.kind, type_, "unknown watch event");
                return Ok(listing);
            }
        };
        // The versions of initial events are those of the objects: a watch cannot resume from them.
        if !listing && !version.is_empty() {
            self.state.advance(version);
            self.watch_works();
        }
        Ok(listing)
    }
}
