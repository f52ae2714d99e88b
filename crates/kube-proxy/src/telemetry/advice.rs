//! Events about Services that ask for what this node cannot do: each once, and few at a time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube_proxy_core::{Algorithm, ObjectName};

use super::events::{Event, Events};

/// So many events at once; the log names every Service.
const BURST: u32 = 20;
/// From one event to the next, once that many were sent.
const PAUSE: Duration = Duration::from_secs(10);
/// Services that are remembered; of more the memory begins again.
const MOST: usize = 4096;

/// What was said. The families share it, so that a Service of both has one event.
#[derive(Debug)]
pub struct Advice {
    events: Events,
    /// The mode of this process.
    mode: &'static str,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    lacking: BTreeSet<(ObjectName, Algorithm)>,
    /// Events that may be sent at once.
    left: u32,
    /// Up to when the pauses are counted.
    counted: Option<Instant>,
}

impl Said {
    /// Whether another event may be sent now.
    fn may_send(&mut self, now: Instant) -> bool {
        let Some(counted) = self.counted else {
            (self.counted, self.left) = (Some(now), BURST - 1);
            return true;
        };
        let pauses = now.saturating_duration_since(counted).as_secs() / PAUSE.as_secs();
        let pauses = u32::try_from(pauses).unwrap_or(u32::MAX);
        if pauses >= BURST {
            (self.counted, self.left) = (Some(now), BURST);
        } else {
            self.counted = Some(counted + PAUSE * pauses);
            self.left = (self.left + pauses).min(BURST);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

impl Advice {
    /// Advice of a process in this mode.
    pub fn new(events: Events, mode: &'static str) -> Self {
        Self { events, mode, said: Mutex::default() }
    }

    /// A Service asks for an algorithm that is not to be had here.
    pub fn lacks_algorithm(&self, service: &ObjectName, algorithm: Algorithm, now: Instant) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.lacking.len() >= MOST {
            said.lacking.clear();
        }
        if !said.lacking.insert((service.clone(), algorithm)) {
            return;
        }
        if said.may_send(now) {
            self.events.send(Event::algorithm_lacking(service, algorithm, self.mode));
        } else {
            tracing::debug!(%service, "dropped an event, there are too many of this kind");
        }
    }
}

#[cfg(test)]
mod tests;
