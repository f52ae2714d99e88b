use kube_proxy_netlink::conntrack::Tuple;

use super::*;
use crate::commands::frontends::tests::services;

fn flow(to: &str, answers: &str, back_to: &str) -> Flow {
    let client = "10.244.0.9:4000".parse().unwrap();
    let mut flow = Flow::new(Tuple::with_ports(6, client, to.parse().unwrap()));
    flow.reply = Tuple::with_ports(6, answers.parse().unwrap(), back_to.parse().unwrap());
    flow.id = Some(7);
    flow
}

fn shown(event: Event, flow: &Flow) -> Option<String> {
    line(event, flow, &Names::of(&services())).map(|line| line.text())
}

#[test]
fn lines_name_the_service_and_what_was_rewritten() {
    let mut plain = flow("10.96.0.1:80", "10.244.1.5:8080", "10.244.0.9:4000");
    assert_eq!(
        shown(Event::Began, &plain).as_deref(),
        Some(
            "began    tcp 10.244.0.9:4000 -> shop/web:http 10.96.0.1:80 -> 10.244.1.5:8080, not answered\n"
        )
    );
    plain.status = Status::SEEN_REPLY;
    assert_eq!(
        shown(Event::Exists, &plain).as_deref(),
        Some("exists   tcp 10.244.0.9:4000 -> shop/web:http 10.96.0.1:80 -> 10.244.1.5:8080\n")
    );
    let node_port = flow("192.0.2.1:30080", "10.244.1.5:8080", "192.0.2.1:61000");
    assert_eq!(
        shown(Event::Ended, &node_port).as_deref(),
        Some(
            "ended    tcp 10.244.0.9:4000 -> shop/web:http 192.0.2.1:30080 -> 10.244.1.5:8080, masqueraded, not answered\n"
        )
    );
    let nowhere = flow("10.96.0.1:80", "10.96.0.1:80", "10.244.0.9:4000");
    assert!(shown(Event::Began, &nowhere).unwrap().contains("to no endpoint"));
    // Through no Service.
    assert_eq!(
        shown(Event::Began, &flow("10.244.1.5:8080", "10.244.1.5:8080", "10.244.0.9:4000")),
        None
    );
    assert_eq!(
        shown(Event::Began, &flow("192.0.2.1:30080", "192.0.2.1:30080", "10.244.0.9:4000")),
        None
    );
}

#[test]
fn json_has_one_stable_object() {
    let flow = flow("10.96.0.1:80", "10.244.1.5:8080", "10.244.0.9:4000");
    let line = line(Event::Began, &flow, &Names::of(&services())).unwrap();
    let json = serde_json::to_value(&line).unwrap();
    let expected = serde_json::json!({
        "event": "began", "protocol": "tcp", "client": "10.244.0.9:4000",
        "frontend": "10.96.0.1:80", "endpoint": "10.244.1.5:8080",
        "masqueraded": false, "answered": false,
        "service": {"namespace": "shop", "name": "web", "portName": "http", "protocol": "TCP"},
    });
    assert_eq!(json, expected);
}
