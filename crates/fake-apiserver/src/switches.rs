//! The switches for misbehaviour that the handle gives out.

use std::sync::MutexGuard;
use std::time::Duration;

use super::faults::{Failure, FaultState, StreamingLists};
use super::shared::Shared;

/// Switches for misbehaviour; each acts at once and stays until it is switched back.
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a> {
    pub(super) shared: &'a Shared,
}

impl Faults<'_> {
    /// Breaks the connection of every open watch in the middle of its answer.
    pub fn drop_watches(self) {
        self.change(|faults| faults.watch_generation += 1);
    }

    /// Makes all watches silent, also new ones: they are accepted and stay open, but neither events nor bookmarks nor
    /// their end arrive. When it is switched off, they continue with what they missed.
    pub fn stall_watches(self, stalled: bool) {
        self.change(|faults| faults.stalled = stalled);
    }

    /// Lets requests fail; failures told earlier come first where both apply.
    pub fn fail(self, failure: Failure) {
        self.change(|faults| faults.failures.push(failure));
    }

    /// Takes back all failures that did not happen yet.
    pub fn clear_failures(self) {
        self.change(|faults| faults.failures.clear());
    }

    /// Forgets the history: every resourceVersion and continue token handed out so far gives 410.
    /// Open watches that are up to date continue.
    pub fn compact_history(self) {
        self.shared.store().compact();
        self.shared.wake();
    }

    /// Says what happens to streaming lists from now on.
    pub fn streaming_lists(self, mode: StreamingLists) {
        self.change(|faults| faults.streaming_lists = mode);
    }

    /// Holds back every answer for some time; zero ends it.
    pub fn delay_responses(self, delay: Duration) {
        self.change(|faults| faults.delay = delay);
    }

    /// Cuts the next events of watches in half, so that they cannot be read; `plural` restricts it to one resource.
    pub fn corrupt_watch_lines(self, lines: u32, plural: Option<&str>) {
        self.change(|faults| faults.corrupt = (lines, plural.map(str::to_owned)));
    }

    /// Knows no protobuf from now on, as servers that only look like Kubernetes.
    pub fn json_only(self, only: bool) {
        self.change(|faults| faults.negotiation.json_only = only);
    }

    /// Accepts no media type with parameters, as no server of Kubernetes does.
    pub fn strict_accept(self, strict: bool) {
        self.change(|faults| faults.negotiation.strict = strict);
    }

    /// Leaves out `metadata.managedFields` where it is asked to, as a server of version 1.38 with `ManagedFieldsOptOut`.
    pub fn drop_managed_fields(self, known: bool) {
        self.change(|faults| faults.negotiation.drops = known);
    }

    /// Answers requests without one of these tokens with 401.
    pub fn accept_only(self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        self.change(|faults| faults.tokens = Some(tokens));
    }

    fn change(self, change: impl FnOnce(&mut FaultState)) {
        let mut faults: MutexGuard<'_, FaultState> = self.shared.faults();
        change(&mut faults);
        drop(faults);
        self.shared.wake();
    }
}
