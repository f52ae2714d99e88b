use super::{Destination, Origin};

#[test]
fn destinations_and_sources_as_people_write_them() {
    for (text, expected) in [
        ("10.96.0.1:80", r#"Address(10.96.0.1:80) None"#),
        ("10.96.0.1:53/udp", r#"Address(10.96.0.1:53) Some(Udp)"#),
        ("[fd00::1]:80/TCP", r#"Address([fd00::1]:80) Some(Tcp)"#),
        (":30080", r#"NodePort(30080) None"#),
        (":30080/sctp", r#"NodePort(30080) Some(Sctp)"#),
        ("web", r#"Service { namespace: None, name: "web", port: None } None"#),
        ("shop/web", r#"Service { namespace: Some("shop"), name: "web", port: None } None"#),
        (
            "shop/web:http/tcp",
            r#"Service { namespace: Some("shop"), name: "web", port: Some("http") } Some(Tcp)"#,
        ),
        (
            "web.shop.svc.cluster.local:80",
            r#"Service { namespace: Some("shop"), name: "web", port: Some("80") } None"#,
        ),
    ] {
        let Destination { target, protocol } =
            text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(format!("{target:?} {protocol:?}"), expected, "{text}");
    }
    for text in ["", "10.96.0.1", "fd00::1", ":", ":0", ":99999", "/web", "a/b/c", "shop/"] {
        assert!(text.parse::<Destination>().is_err(), "{text}");
    }
    for (text, expected) in [
        ("pod", Origin::Pod),
        ("node", Origin::Node),
        ("outside", Origin::Outside),
        ("10.0.0.1", Origin::Address([10, 0, 0, 1].into())),
    ] {
        assert_eq!(text.parse(), Ok(expected));
    }
    assert!("somewhere".parse::<Origin>().is_err());
}
