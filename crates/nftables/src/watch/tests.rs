use kube_proxy_netlink::Errno;

use super::*;

const OWN: Own = Own { family: 2, port: 4711 };

fn notice(change: impl Fn(&mut Notice<'_>)) -> bool {
    let mut notice = Notice { family: 2, table: TABLE, port: 1, elements_gone_from: None };
    change(&mut notice);
    OWN.is_touched_by(&notice)
}

#[test]
fn only_others_and_only_our_table() {
    assert!(notice(|_| {}));
    assert!(notice(|notice| notice.port = 0), "the kernel itself");
    assert!(!notice(|notice| notice.port = 4711), "ourselves");
    assert!(!notice(|notice| notice.family = 10), "the other family's");
    assert!(!notice(|notice| notice.table = "other"));
}

#[test]
fn sessions_may_end() {
    assert!(!notice(|notice| notice.elements_gone_from = Some("affinity")));
    assert!(notice(|notice| notice.elements_gone_from = Some("service-ips")));
}

#[test]
fn what_is_missing_asks_for_a_look_and_damage_weighs_more() {
    let lost = || Err(Error::Lost { object: String::new() });
    let mut ear = Ear::new(OWN);
    ear.end(Ok(()));
    assert_eq!(ear.heard, Heard::Nothing);
    ear.end(lost());
    assert_eq!(ear.heard, Heard::NotAll);
    ear.hear(&Notice { family: 2, table: TABLE, port: 1, elements_gone_from: None });
    ear.end(lost());
    assert_eq!((ear.heard, ear.broken), (Heard::Damage, false));
    ear.end(Err(Error::Receive { object: String::new(), errno: Errno::EBADF }));
    assert!(ear.broken);
}
