use super::*;
use crate::testing::port_name;

/// The service port of this name, by which everybody asks for the frontend with number 1.
fn name(name: &str) -> ServicePortName {
    port_name(&format!("ns/{name}"), "")
}

#[test]
fn the_first_by_name_has_it() {
    let mut claims = Claims::default();
    let to = |from: Option<&str>, to: Option<&str>| {
        Some(Handover { from: from.map(name), to: to.map(name) })
    };
    assert_eq!(claims.claim(1, false, &name("b")), to(None, Some("b")));
    assert_eq!(claims.claim(1, false, &name("b")), None, "twice is once");
    assert_eq!(claims.claim(1, false, &name("c")), None);
    assert_eq!(claims.claim(1, false, &name("a")), to(Some("b"), Some("a")));
    assert_eq!(claims.owner(&1), Some(&name("a")));
    assert_eq!(claims.release(&1, false, &name("b")), None);
    assert_eq!(claims.release(&1, true, &name("a")), None, "not asked for like that");
    assert_eq!(claims.release(&1, false, &name("a")), to(Some("a"), Some("c")));
    assert_eq!(claims.release(&1, false, &name("a")), None);
    assert_eq!(claims.release(&1, false, &name("c")), to(Some("c"), None));
    assert_eq!(claims, Claims::default(), "nothing is left");
}

#[test]
fn frontends_do_not_meddle_with_each_other() {
    let mut claims = Claims::default();
    for (frontend, owner) in [(1, "a"), (2, "b"), (3, "c")] {
        claims.claim(frontend, false, &name(owner));
        assert_eq!(claims.owner(&frontend), Some(&name(owner)));
    }
}

#[test]
fn a_cluster_ip_goes_before_everything_else() {
    let mut claims = Claims::default();
    claims.claim(1, false, &name("a"));
    claims.claim(1, true, &name("z"));
    assert_eq!(claims.owner(&1), Some(&name("z")));
    claims.release(&1, true, &name("z"));
    assert_eq!(claims.owner(&1), Some(&name("a")));
}
