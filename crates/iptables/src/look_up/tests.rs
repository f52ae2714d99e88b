use kube_proxy_core::{Frontend, ObjectName, Protocol, ServicePortName};

use super::*;

#[test]
fn rules_for_other_destinations_are_of_no_concern() {
    let service = ServicePortName {
        service: ObjectName::new("default", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
    };
    let to = "10.96.0.1:80".parse().unwrap();
    let query = FrontendQuery::new(service, Frontend::Address(Protocol::Tcp, to), to);
    for (rule, expected) in [
        ("-j DROP", true),
        ("-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j RETURN", true),
        ("-d 10.96.0.0/16 -j DROP", true),
        ("! -d 10.97.0.0/16 -j DROP", true),
        ("-d 10.96.0.2/32 -j DROP", false),
        ("! -d 10.96.0.0/16 -j DROP", false),
        ("-p tcp -j DROP", true),
        ("-p 6 -j DROP", true),
        ("! -p udp -j DROP", true),
        ("-p udp -j DROP", false),
        ("-p tcp -m tcp --dport 1:1024 -j DROP", true),
        ("-p tcp -m tcp --dport 81 -j DROP", false),
        ("-p tcp -m tcp ! --dport 81 -j DROP", true),
        ("-s 192.0.2.0/24 -m comment --comment \"-d 10.96.0.9/32\" -j DROP", true),
    ] {
        assert_eq!(concerns(rule, &query), expected, "{rule}");
    }
}
