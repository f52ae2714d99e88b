use kube_proxy_netlink::Errno;

use super::*;

const OWN: SelfPort = SelfPort { family: 2, port: 4711 };

fn notice(change: impl Fn(&mut Notice<'_>)) -> bool {
    let mut notice = Notice { family: 2, table: TABLE.into(), port: 1, elements_gone_from: None };
    change(&mut notice);
    OWN.is_touched_by(&notice)
}

#[test]
fn only_others_and_only_our_table() {
    assert!(notice(|_| {}));
    assert!(notice(|notice| notice.port = 0), "the kernel itself");
    assert!(!notice(|notice| notice.port = 4711), "ourselves");
    assert!(!notice(|notice| notice.family = 10), "the other family's");
    assert!(!notice(|notice| notice.table = "other".into()));
}

#[test]
fn sessions_may_end() {
    assert!(!notice(|notice| notice.elements_gone_from = Some("client-affinity".into())));
    assert!(notice(|notice| notice.elements_gone_from = Some("frontend-ips".into())));
}

#[test]
fn lost_notices_request_a_check_and_changes_outweigh_them() {
    let lost = || Err(Error::Lost { object: String::new() });
    let mut filter = NotificationFilter::new(OWN);
    filter.end(Ok(()));
    assert_eq!(filter.seen, Notification::None);
    filter.end(lost());
    assert_eq!(filter.seen, Notification::Lost);
    filter.take(&Notice { family: 2, table: TABLE.into(), port: 1, elements_gone_from: None });
    filter.end(lost());
    assert_eq!((filter.seen, filter.broken), (Notification::Changed, false));
    filter.end(Err(Error::Receive { object: String::new(), errno: Errno::EBADF }));
    assert!(filter.broken);
}
