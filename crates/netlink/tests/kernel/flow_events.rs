//! Word of flows as they begin, change and end.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kube_proxy_netlink::Family;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow, FlowEvent, Monitor, Status, Tuple};

use crate::{Test, run};

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("flow_events::real_connection_begins_changes_and_ends", real_connection),
        ("flow_events::dnat_is_in_the_event", dnat_is_in_the_event),
        ("flow_events::overflow_is_told_and_it_continues", overflow),
        ("flow_events::handle_ends_the_wait", handle_ends_the_wait),
    ]
}

/// Events until one that is wanted; those before are handed back with it.
fn until(monitor: &mut Monitor, wanted: impl Fn(&FlowEvent) -> bool) -> Vec<FlowEvent> {
    let mut events = Vec::new();
    while !events.iter().any(&wanted) {
        let before = events.len();
        assert!(monitor.wait(Some(PATIENCE), |event| events.push(event)).expect("events"));
        assert_ne!(events.len(), before, "nothing came: {events:?}");
    }
    events
}

fn to(flow: &Flow, destination: SocketAddr) -> bool {
    flow.original.destination_socket() == Some(destination)
}

fn real_connection() {
    run("conntrack", &["-F"]);
    let server = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = server.local_addr().expect("address");
    let (mut monitor, _stop) = Monitor::open().expect("monitor");
    let client = TcpStream::connect(address).expect("connection");
    let source = client.local_addr().expect("address");
    let answered = |event: &FlowEvent| matches!(event, FlowEvent::Changed(flow) if to(flow, address) && flow.status.contains(Status::ASSURED));
    let events = until(&mut monitor, answered);
    let began = events.iter().find_map(|event| match event {
        FlowEvent::Began(flow) if to(flow, address) => Some(*flow),
        _ => None,
    });
    let began = began.expect("it began before it was answered");
    assert_eq!(began.original.source_socket(), Some(source));
    assert!(!began.status.contains(Status::SEEN_REPLY));
    let mut table = Conntrack::open().expect("table");
    assert!(table.delete(&began).expect("delete"));
    let events =
        until(&mut monitor, |event| matches!(event, FlowEvent::Ended(flow) if flow.id == began.id));
    assert!(!events.contains(&FlowEvent::Missed));
}

fn dnat_is_in_the_event() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("port");
    let endpoint = server.local_addr().expect("address");
    let port = endpoint.port().to_string();
    run("nft", &["add table ip events"]);
    run("nft", &["add chain ip events o { type nat hook output priority -100 ; }"]);
    let rule =
        format!("add rule ip events o ip daddr 127.0.0.77 udp dport 53 dnat to 127.0.0.1:{port}");
    run("nft", &[&rule]);
    let (mut monitor, _stop) = Monitor::open().expect("monitor");
    let frontend: SocketAddr = "127.0.0.77:53".parse().expect("address");
    let client = UdpSocket::bind("127.0.0.1:0").expect("port");
    client.send_to(b"?", frontend).expect("sent");
    let events =
        until(&mut monitor, |event| matches!(event, FlowEvent::Began(flow) if to(flow, frontend)));
    let replies: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            FlowEvent::Began(flow) if to(flow, frontend) => Some(flow),
            _ => None,
        })
        .collect();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].reply.source_socket(), Some(endpoint));
    assert!(replies[0].status.contains(Status::DESTINATION_NAT));
    run("nft", &["delete table ip events"]);
}

fn overflow() {
    run("conntrack", &["-F"]);
    let (mut monitor, _stop) = Monitor::open().expect("monitor");
    let mut table = Conntrack::open().expect("table");
    // More events than 8 MiB of kernel memory hold.
    let client = |n: u32| SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 4000);
    let frontend = "10.96.0.1:53".parse().expect("address");
    let flows: Vec<_> =
        (0..60_000).map(|n| Flow::new(Tuple::with_ports(17, client(n), frontend))).collect();
    table.insert(&flows).expect("insert");
    let events = until(&mut monitor, |event| *event == FlowEvent::Missed);
    assert!(events.len() < flows.len(), "{}", events.len());
    let mut listed = 0;
    let _ = table.dump(&Filter::protocol(Family::V4, 17), |_| listed += 1).expect("list");
    assert!(listed >= flows.len());
    // What came after the overflow began is still there; then it continues.
    while {
        let mut any = false;
        monitor.wait(Some(Duration::ZERO), |_| any = true).expect("events");
        any
    } {}
    let late = Flow::new(Tuple::with_ports(17, client(1_000_000), frontend));
    table.insert(&[late]).expect("insert");
    until(
        &mut monitor,
        |event| matches!(event, FlowEvent::Began(flow) if flow.original == late.original),
    );
    run("conntrack", &["-F"]);
}

fn handle_ends_the_wait() {
    let (mut monitor, stop) = Monitor::open().expect("monitor");
    let waiting = std::thread::spawn(move || while monitor.wait(None, |_| {}).expect("events") {});
    stop.stop();
    waiting.join().expect("it ends");
    // A wait that is over before it began.
    let (mut monitor, _stop) = Monitor::open().expect("monitor");
    while {
        let mut any = false;
        assert!(monitor.wait(Some(Duration::ZERO), |_| any = true).expect("events"));
        any
    } {}
}
