use std::net::SocketAddr;

use kube_proxy_core::Protocol;

use super::{OwnListener, leads_here};

#[test]
fn only_what_listens_here_leads_here() {
    let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    // Ports below those that the kernel gives out; nothing is bound, only noted.
    let wildcard = OwnListener::new(Protocol::Tcp, at("0.0.0.0:1021"));
    let again = OwnListener::new(Protocol::Tcp, at("0.0.0.0:1021"));
    let _exact = OwnListener::new(Protocol::Udp, at("192.0.2.7:1022"));
    let to = |protocol, text: &str| leads_here(protocol, at(text));
    assert!(to(Protocol::Tcp, "127.0.0.1:1021"));
    assert!(to(Protocol::Tcp, "127.9.9.9:1021"));
    assert!(to(Protocol::Tcp, "0.0.0.0:1021"));
    assert!(to(Protocol::Tcp, "[::ffff:127.0.0.1]:1021"), "the same address in other clothes");
    assert!(!to(Protocol::Tcp, "127.0.0.1:1023"), "another port");
    assert!(!to(Protocol::Udp, "127.0.0.1:1021"), "another protocol");
    assert!(!to(Protocol::Tcp, "[::1]:1021"), "another family");
    assert!(!to(Protocol::Tcp, "192.0.2.1:1021"), "another node");
    assert!(to(Protocol::Udp, "192.0.2.7:1022"));
    assert!(!to(Protocol::Udp, "127.0.0.1:1022"), "listens at one address only");
    drop(wildcard);
    assert!(to(Protocol::Tcp, "127.0.0.1:1021"), "there is another one");
    drop(again);
    assert!(!to(Protocol::Tcp, "127.0.0.1:1021"));
}
