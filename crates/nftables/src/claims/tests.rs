use kube_proxy_core::{ObjectName, Protocol};

use super::*;

fn name(text: &str) -> ServicePortName {
    ServicePortName {
        service: ObjectName::new("ns", text),
        port: "".into(),
        protocol: Protocol::Tcp,
    }
}

#[test]
fn the_first_by_name_has_it() {
    let frontend = Frontend::NodePort(Protocol::Tcp, 30_000);
    let mut claims = Claims::default();
    let to = |from: Option<&str>, to: Option<&str>| {
        Some(Handover { from: from.map(name), to: to.map(name) })
    };
    assert_eq!(claims.claim((frontend, Role::External), &name("b")), to(None, Some("b")));
    assert_eq!(claims.claim((frontend, Role::External), &name("b")), None, "twice is once");
    assert_eq!(claims.claim((frontend, Role::External), &name("c")), None);
    assert_eq!(claims.claim((frontend, Role::External), &name("a")), to(Some("b"), Some("a")));
    assert_eq!(claims.owner(&frontend), Some(&name("a")));
    assert_eq!(claims.release((frontend, Role::External), &name("b")), None);
    assert_eq!(claims.release((frontend, Role::External), &name("a")), to(Some("a"), Some("c")));
    assert_eq!(claims.release((frontend, Role::External), &name("a")), None);
    assert_eq!(claims.release((frontend, Role::External), &name("c")), to(Some("c"), None));
    assert_eq!(claims, Claims::default(), "nothing is left");
}

#[test]
fn frontends_do_not_meddle_with_each_other() {
    let mut claims = Claims::default();
    let port = |protocol, number| Frontend::NodePort(protocol, number);
    for (frontend, owner) in [
        (port(Protocol::Tcp, 1), "a"),
        (port(Protocol::Udp, 1), "b"),
        (port(Protocol::Tcp, 2), "c"),
        (Frontend::Address([10, 0, 0, 1].into(), Protocol::Tcp, 1), "d"),
    ] {
        claims.claim((frontend, Role::External), &name(owner));
        assert_eq!(claims.owner(&frontend), Some(&name(owner)));
    }
}

#[test]
fn a_cluster_ip_goes_before_everything_else() {
    let frontend = Frontend::Address([10, 0, 0, 1].into(), Protocol::Udp, 53);
    let mut claims = Claims::default();
    claims.claim((frontend, Role::External), &name("a"));
    claims.claim((frontend, Role::ClusterIp), &name("z"));
    assert_eq!(claims.owner(&frontend), Some(&name("z")));
    claims.release((frontend, Role::ClusterIp), &name("z"));
    assert_eq!(claims.owner(&frontend), Some(&name("a")));
}
