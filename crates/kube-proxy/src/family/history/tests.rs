use std::time::{Duration, SystemTime};

use kube_proxy_core::tracker::{ObjectChange, What};
use kube_proxy_core::{Kind, ObjectName};

use super::{History, MOST};

fn change(number: usize) -> ObjectChange {
    let name = ObjectName::new("shop", format!("web-{number}"));
    ObjectChange {
        service: name.clone(),
        kind: Kind::Service,
        object: name,
        what: What::Changed,
        endpoints: None,
        trigger_time: None,
    }
}

fn at(second: usize) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second.try_into().unwrap())
}

#[test]
fn a_change_waits_until_the_node_has_it() {
    let mut history = History::new(at(0));
    history.add([change(1)].into_iter(), at(1));
    history.written(at(2));
    history.add([change(2), change(3)].into_iter(), at(3));
    let times = |history: &History| {
        let changes = history.changes();
        changes.last.iter().map(|change| change.in_kernel).collect::<Vec<_>>()
    };
    assert_eq!(times(&history), [Some(at(2)), None, None]);
    history.written(at(4));
    assert_eq!(times(&history), [Some(at(2)), Some(at(4)), Some(at(4))]);
    assert_eq!(history.changes().since, at(0));
}

#[test]
fn the_oldest_changes_make_room() {
    let mut history = History::new(at(0));
    for number in 1..=MOST + 2 {
        history.add([change(number)].into_iter(), at(number));
    }
    let changes = history.changes();
    assert_eq!(changes.last.len(), MOST);
    assert_eq!(changes.last[0].object, change(3));
    assert_eq!(changes.since, at(2), "what came before is not complete");
}
