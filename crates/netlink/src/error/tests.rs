use super::*;

fn refusal(errno: Errno) -> Refusal {
    let object = "delete table ip kube-proxy".to_owned();
    Refusal {
        object,
        target: None,
        errno,
        code: errno as i32,
        message: None,
        offset: None,
        missing: None,
    }
}

#[test]
fn refusal_says_what_why_and_where() {
    let bare = refusal(Errno::ENOENT);
    assert_eq!(
        bare.to_string(),
        "delete table ip kube-proxy: the kernel refused: ENOENT: No such file or directory"
    );
    let full = Refusal {
        message: Some("nothing here".to_owned()),
        offset: Some(20),
        missing: Some(3),
        ..bare
    };
    assert_eq!(
        full.to_string(),
        "delete table ip kube-proxy: the kernel refused: ENOENT: No such file or directory: \
         nothing here (attribute 3 is missing) (at byte 20 of the request)"
    );
}

#[test]
fn predicates_look_at_the_first_refusal() {
    let first = refusal(Errno::EEXIST);
    let error = Error::Batch { first, others: vec![refusal(Errno::ENOENT)] };
    assert!(error.is_exists() && !error.is_not_found());
    assert_eq!(error.refusals().count(), 2);
    assert!(error.to_string().ends_with("(and 1 more errors in this batch)"));

    let of = |errno| Error::Refused(refusal(errno));
    assert!(of(Errno::ENOENT).is_not_found());
    assert!(of(Errno::EBUSY).is_busy());
    assert!(of(Errno::EPERM).is_permission());
    assert!(of(Errno::EACCES).is_permission());
    assert!(of(Errno::EOPNOTSUPP).is_unsupported());
    assert!(of(Errno::ERESTART).is_stale());
    let lost = Error::Lost { object: "x".to_owned() };
    assert_eq!(lost.errno(), None);
    assert!(!lost.is_not_found() && !lost.is_exists() && !lost.is_busy());
    assert_eq!(lost.refusals().count(), 0);
}
