use super::*;
use crate::testing::port_name;

#[test]
fn a_cluster_ip_goes_first_and_then_names() {
    let (a, b, c) = (port_name("ns/a", ""), port_name("ns/b", ""), port_name("ns/c", ""));
    let mut claims = Claims::<u8>::default();
    let first = claims.claim(1, false, &b);
    assert_eq!(first, Some(Handover { from: None, to: Some(b.clone()) }));
    assert_eq!(claims.claim(1, false, &c), None);
    let stolen = claims.claim(1, false, &a);
    assert_eq!(stolen, Some(Handover { from: Some(b.clone()), to: Some(a.clone()) }));
    claims.claim(1, true, &c);
    assert_eq!(claims.owner(&1), Some(&c));
    let back = claims.release(&1, true, &c);
    assert_eq!(back, Some(Handover { from: Some(c), to: Some(a.clone()) }));
    assert_eq!(claims.release(&1, true, &a), None, "not asked for like that");
    claims.release(&1, false, &a);
    claims.release(&1, false, &b);
    assert_eq!(claims.owner(&1), Some(&port_name("ns/c", "")));
}
