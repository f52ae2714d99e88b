use super::*;

fn refused(name: &str, errno: i32) -> Result<(), SyncError> {
    let refusal = Refusal { kind: "set", name: name.to_owned(), errno };
    Err(SyncError::RefusedObject { message: format!("{name}: {errno}"), refusal })
}

/// The levels of the syncs that follow each of these.
fn levels(results: &[Result<(), SyncError>]) -> Vec<Option<RepairLevel>> {
    let mut escalation = Escalation::default();
    let mut levels = Vec::new();
    for result in results {
        escalation.ended(result);
        levels.push(escalation.level());
    }
    levels
}

const FULL: Option<RepairLevel> = Some(RepairLevel::Full);
const OBJECT: Option<RepairLevel> = Some(RepairLevel::Object);
const TABLE: Option<RepairLevel> = Some(RepairLevel::Table);

#[test]
fn what_repeats_goes_deeper_until_it_succeeds() {
    let same = || refused("a", 2);
    let results = [same(), same(), same(), same(), Ok(()), same()];
    assert_eq!(levels(&results), [FULL, OBJECT, TABLE, TABLE, None, FULL]);
}

#[test]
fn another_object_or_error_is_another_refusal() {
    let results = [refused("a", 2), refused("b", 2), refused("a", 16), refused("b", 2)];
    assert_eq!(levels(&results), [FULL, FULL, FULL, OBJECT]);
    // But not without end.
    let results: Vec<_> = (0..5).map(|errno| refused("a", errno)).collect();
    assert_eq!(levels(&results), [FULL, FULL, FULL, OBJECT, TABLE]);
}

#[test]
fn a_repair_that_is_refused_in_another_way_is_followed_by_a_deeper_one() {
    let results = [refused("a", 2), refused("a", 2), refused("b", 16)];
    assert_eq!(levels(&results), [FULL, OBJECT, TABLE]);
}

#[test]
fn what_is_not_refused_does_not_count() {
    let busy = || Err(SyncError::Busy("locked".into()));
    let results = [busy(), busy(), refused("a", 2), busy(), refused("a", 2), busy()];
    assert_eq!(levels(&results), [None, None, FULL, FULL, OBJECT, OBJECT]);
}

#[test]
fn where_no_object_is_known_all_is_written_again() {
    let refused = || Err(SyncError::Refused("line 6 failed".into()));
    assert_eq!(levels(&[refused(), refused(), refused()]), [FULL, TABLE, TABLE]);
}
