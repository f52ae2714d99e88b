use std::time::SystemTime;

use super::{EndpointCount, MOST, ObjectChange, ObjectChanges, What};
use crate::testing::{applied, name, options, ready, service, slice, terminating};
use crate::{EndpointSlice, Event, IpFamily, Kind, Tracker};

fn changes(tracker: &mut Tracker) -> Vec<(String, Kind, String, What)> {
    let shown = |change: ObjectChange| {
        (change.service.to_string(), change.kind, change.object.to_string(), change.what)
    };
    tracker.take_object_changes().map(shown).collect()
}

fn listed() -> Tracker {
    let mut tracker = Tracker::new(options(IpFamily::V4));
    tracker.apply(applied(service("ns/a", "10.96.0.1")));
    tracker.apply(Event::EndpointSliceApplied(slice("ns/a-1", "a", vec![ready("10.0.0.1")])));
    tracker.apply(Event::ListDone(Kind::Service));
    tracker.apply(Event::ListDone(Kind::EndpointSlice));
    tracker
}

#[test]
fn what_makes_a_difference_after_the_first_lists_is_a_change() {
    let mut tracker = listed();
    assert_eq!(changes(&mut tracker), [], "the first lists");
    tracker.apply(applied(service("ns/a", "10.96.0.1")));
    assert_eq!(changes(&mut tracker), [], "the same again");
    tracker.apply(applied(service("ns/a", "10.96.0.2")));
    tracker.apply(applied(service("ns/b", "10.96.0.3")));
    tracker.apply(Event::ServiceDeleted(name("ns/a")));
    let of = |service: &str, what| (service.to_owned(), Kind::Service, service.to_owned(), what);
    let expected = [of("ns/a", What::Changed), of("ns/b", What::Added), of("ns/a", What::Removed)];
    assert_eq!(changes(&mut tracker), expected);
    assert_eq!(changes(&mut tracker), [], "they were taken");
}

#[test]
fn a_slice_says_when_and_how_many() {
    let mut tracker = listed();
    let trigger_time = Some(SystemTime::UNIX_EPOCH);
    let endpoints = vec![ready("10.0.0.1"), terminating("10.0.0.2")];
    let changed = EndpointSlice { trigger_time, ..slice("ns/a-1", "a", endpoints) };
    tracker.apply(Event::EndpointSliceApplied(changed));
    let change = tracker.take_object_changes().next().unwrap();
    assert_eq!((change.what, change.trigger_time), (What::Changed, trigger_time));
    assert_eq!(change.endpoints, Some(EndpointCount { ready: 1, total: 2 }));
    // One that changes hands affects both Services.
    tracker.apply(Event::EndpointSliceApplied(slice("ns/a-1", "b", vec![ready("10.0.0.1")])));
    tracker.apply(Event::EndpointSliceDeleted(name("ns/a-1")));
    let of =
        |service: &str, what| (service.to_owned(), Kind::EndpointSlice, "ns/a-1".to_owned(), what);
    let expected =
        [of("ns/a", What::Changed), of("ns/b", What::Changed), of("ns/b", What::Removed)];
    assert_eq!(changes(&mut tracker), expected);
}

#[test]
fn of_very_many_the_last_ones_are_kept() {
    let mut kept = ObjectChanges::default();
    for number in 0..MOST + 10 {
        kept.push(ObjectChange::of_service(&name(&format!("ns/{number}")), What::Added));
    }
    let first = kept.take().next().unwrap();
    assert_eq!(first.object, name("ns/10"));
}
