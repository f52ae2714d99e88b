//! The connection tracking table: what we insert, list and delete, against what `conntrack` shows.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kube_proxy_netlink::Family;
use kube_proxy_netlink::conntrack::{
    Conntrack, Filter, Flow, Status, TcpState, Transport, Tuple, TupleFilter,
};
use kube_proxy_netlink::socket::DumpEnd;

use crate::{Test, run};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("conntrack::inserted_flow_reads_back", inserted_flow_reads_back),
        ("conntrack::kernel_and_user_filters_agree", kernel_and_user_filters_agree),
        ("conntrack::same_as_the_conntrack_program", same_as_the_conntrack_program),
        ("conntrack::delete_takes_exactly_one", delete_takes_exactly_one),
        ("conntrack::delete_spares_a_successor", delete_spares_a_successor),
        ("conntrack::delete_all_counts", delete_all_counts),
        ("conntrack::zones_are_apart", zones_are_apart),
        ("conntrack::real_packets_through_dnat", real_packets_through_dnat),
        ("conntrack::icmp_flow_round_trips", icmp_flow_round_trips),
        ("conntrack::insert_twice_exists", insert_twice_exists),
        ("conntrack::tcp_states", tcp_states),
        ("conntrack::redirected_connection_is_reset", redirected_connection_is_reset),
        ("conntrack::large_table", large_table),
    ]
}

/// An empty table.
fn table() -> Conntrack {
    run("conntrack", &["-F"]);
    Conntrack::open().expect("conntrack socket")
}

fn socket_address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A flow to `frontend` that goes to `endpoint`, as DNAT leaves it.
fn flow(protocol: u8, client: &str, frontend: &str, endpoint: &str) -> Flow {
    let client = socket_address(client);
    let original = Tuple::with_ports(protocol, client, socket_address(frontend));
    let reply = Tuple::with_ports(protocol, socket_address(endpoint), client);
    Flow { reply, ..Flow::new(original) }
}

fn list(table: &mut Conntrack, filter: &Filter) -> Vec<Flow> {
    let mut flows = Vec::new();
    let dump = table.dump(filter, |flow| flows.push(*flow)).expect("dump");
    assert_eq!(dump.end, DumpEnd::Complete);
    assert_eq!(dump.matched, flows.len() as u64);
    flows
}

fn all(table: &mut Conntrack, family: Family) -> Vec<Flow> {
    list(table, &Filter::family(family))
}

fn inserted_flow_reads_back() {
    let mut table = table();
    let mut inserted = flow(UDP, "10.0.0.9:4000", "10.96.0.1:53", "10.1.0.5:5353");
    inserted.mark = 0x4000;
    inserted.status = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED;
    inserted.timeout = Some(Duration::from_secs(1000));
    table.insert(&[inserted]).expect("insert");
    let flows = all(&mut table, Family::V4);
    assert_eq!(flows.len(), 1, "{flows:?}");
    let read = flows[0];
    assert_eq!((read.original, read.reply), (inserted.original, inserted.reply));
    assert_eq!((read.mark, read.zone), (0x4000, 0));
    assert!(read.status.contains(inserted.status), "{:?}", read.status);
    assert!(read.id.is_some());
    let timeout = read.timeout.expect("a timeout");
    assert!(timeout > Duration::from_mins(15) && timeout <= Duration::from_secs(1000));
    assert_eq!(table.count().expect("count"), 1);
}

/// Flows that differ in everything a filter can name.
fn varied() -> Vec<Flow> {
    let mut flows = Vec::new();
    for protocol in [TCP, UDP, SCTP] {
        for client in 1..4 {
            for (frontend, endpoint) in [
                ("10.96.0.1:53", "10.1.0.5:5353"),
                ("10.96.0.1:80", "10.1.0.5:8080"),
                ("10.96.0.2:53", "10.1.0.6:5353"),
            ] {
                let client = format!("10.0.0.{client}:4000");
                flows.push(flow(protocol, &client, frontend, endpoint));
            }
            for (frontend, endpoint) in [
                ("[fd00:96::1]:53", "[fd00:1::5]:5353"),
                ("[fd00:96::1]:80", "[fd00:1::5]:8080"),
                ("[fd00:96::2]:53", "[fd00:1::6]:5353"),
            ] {
                let client = format!("[fd00::{client}]:4000");
                flows.push(flow(protocol, &client, frontend, endpoint));
            }
        }
    }
    // Every second one is answered.
    for flow in flows.iter_mut().step_by(2) {
        flow.status = flow.status | Status::SEEN_REPLY;
    }
    flows
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn filters() -> Vec<Filter> {
    let mut filters = Vec::new();
    for family in [Family::V4, Family::V6] {
        let (client, frontend, endpoint, absent) = match family {
            Family::V4 => ("10.0.0.2", "10.96.0.1", "10.1.0.5", "10.9.9.9"),
            Family::V6 => ("fd00::2", "fd00:96::1", "fd00:1::5", "fd00:9::9"),
        };
        let any = TupleFilter::default();
        let to_frontend = TupleFilter { destination: Some(ip(frontend)), ..any };
        let to_port = TupleFilter { destination_port: Some(53), ..any };
        let both =
            TupleFilter { destination: Some(ip(frontend)), destination_port: Some(53), ..any };
        let from_client = TupleFilter { source: Some(ip(client)), source_port: Some(4000), ..any };
        let from_endpoint =
            TupleFilter { source: Some(ip(endpoint)), source_port: Some(5353), ..any };
        let to_absent = TupleFilter { destination: Some(ip(absent)), ..any };
        // Matches nothing whatever the family of the filter.
        let wrong_family = TupleFilter {
            destination: Some(ip(if family == Family::V4 { "fd00:96::1" } else { "10.96.0.1" })),
            ..any
        };
        for protocol in [None, Some(TCP), Some(UDP), Some(SCTP), Some(1)] {
            for original in [any, to_frontend, to_port, both, from_client, to_absent, wrong_family]
            {
                for reply in [any, from_endpoint] {
                    for unanswered in [false, true] {
                        filters.push(Filter { family, protocol, original, reply, unanswered });
                    }
                }
            }
        }
    }
    filters
}

fn keys(flows: &[Flow]) -> BTreeSet<String> {
    flows.iter().map(ToString::to_string).collect()
}

fn kernel_and_user_filters_agree() {
    let mut in_kernel = table();
    let flows = varied();
    in_kernel.insert(&flows).expect("insert");
    let mut in_user_space = Conntrack::open().expect("conntrack socket");
    in_user_space.filter_in_user_space();
    let mut sizes = BTreeSet::new();
    for filter in filters() {
        let kernel = keys(&list(&mut in_kernel, &filter));
        let user = keys(&list(&mut in_user_space, &filter));
        let expected: Vec<_> = flows.iter().copied().filter(|f| filter.matches(f)).collect();
        assert_eq!(kernel, keys(&expected), "{filter:?}");
        assert_eq!(user, kernel, "{filter:?}");
        sizes.insert(kernel.len());
    }
    // The filters do filter, and not everything.
    assert!(sizes.len() > 4 && sizes.contains(&0) && sizes.contains(&27), "{sizes:?}");

    // On kernels with CTA_FILTER only what matches crosses into user space.
    let mut filter = Filter::protocol(Family::V4, UDP);
    filter.original.destination = Some(ip("10.96.0.1"));
    filter.original.destination_port = Some(53);
    let kernel = in_kernel.dump(&filter, |_| ()).expect("dump");
    let user = in_user_space.dump(&filter, |_| ()).expect("dump");
    assert_eq!((user.received, user.matched), (27, 3));
    assert_eq!((kernel.received, kernel.matched), (3, 3));

    // The same since 5.18 for those without an answer.
    let unanswered = Filter { unanswered: true, ..Filter::protocol(Family::V6, TCP) };
    let kernel = in_kernel.dump(&unanswered, |_| ()).expect("dump");
    assert_eq!(kernel.received, kernel.matched);
}

/// What `conntrack -L` prints: `src=… dst=… sport=… dport=…`, twice.
fn listed_by_program(family: &str, protocol: &str) -> BTreeSet<Vec<String>> {
    run("conntrack", &["-L", "-f", family, "-p", protocol])
        .lines()
        .map(|line| {
            line.split_whitespace()
                .filter(|word| {
                    ["src=", "dst=", "sport=", "dport=", "mark="]
                        .iter()
                        .any(|key| word.starts_with(key))
                })
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

fn as_program(flow: &Flow) -> Vec<String> {
    let mut words = Vec::new();
    for tuple in [flow.original, flow.reply] {
        let Transport::Ports { source, destination } = tuple.transport else {
            panic!("{flow} has no ports");
        };
        words.push(format!("src={}", tuple.source));
        words.push(format!("dst={}", tuple.destination));
        words.push(format!("sport={source}"));
        words.push(format!("dport={destination}"));
    }
    words.push(format!("mark={}", flow.mark));
    words
}

fn same_as_the_conntrack_program() {
    let mut table = table();
    let mut flows = varied();
    for (mark, flow) in (0..).zip(&mut flows) {
        flow.mark = mark;
    }
    table.insert(&flows).expect("insert");
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        for (protocol, protocol_name) in [(TCP, "tcp"), (UDP, "udp"), (SCTP, "sctp")] {
            let ours = list(&mut table, &Filter::protocol(family, protocol));
            let ours: BTreeSet<_> = ours.iter().map(as_program).collect();
            assert_eq!(ours, listed_by_program(name, protocol_name), "{name} {protocol_name}");
            assert_eq!(ours.len(), 9);
        }
    }
}

fn delete_takes_exactly_one() {
    let mut table = table();
    table.insert(&varied()).expect("insert");
    for family in [Family::V4, Family::V6] {
        let before = list(&mut table, &Filter::protocol(family, UDP));
        let victim = before[4];
        assert!(table.delete(&victim).expect("delete"));
        let after = keys(&list(&mut table, &Filter::protocol(family, UDP)));
        let mut expected = keys(&before);
        assert!(expected.remove(&victim.to_string()));
        assert_eq!(after, expected);
        assert!(!table.delete(&victim).expect("it is gone, which is no error"));
    }
    assert_eq!(table.count().expect("count"), 52);
}

fn delete_spares_a_successor() {
    let mut table = table();
    let flow = flow(UDP, "10.0.0.9:4000", "10.96.0.1:53", "10.1.0.5:5353");
    table.insert(&[flow]).expect("insert");
    let old = all(&mut table, Family::V4)[0];
    // Until the kernel gives the new flow another id: ids are made from memory addresses, which are used again.
    let mut attempts = 0;
    let new = loop {
        attempts += 1;
        assert!(attempts < 1000, "the kernel gives every flow the same id");
        run("conntrack", &["-F"]);
        let filler = Tuple { source: "10.0.0.8".parse().expect("address"), ..flow.original };
        table.insert(&[Flow::new(filler), flow]).expect("insert");
        let all = all(&mut table, Family::V4);
        let new = *all.iter().find(|f| f.original == flow.original).expect("the new flow");
        if new.id != old.id {
            break new;
        }
    };
    assert!(!table.delete(&old).expect("delete"), "the old flow is gone");
    assert_eq!(table.count().expect("count"), 2);
    assert!(table.delete(&new).expect("delete"));
    assert_eq!(table.count().expect("count"), 1);
}

fn delete_all_counts() {
    let mut table = table();
    // More than one datagram of the pipeline.
    let flows: Vec<_> = (1..=300)
        .map(|port| flow(UDP, &format!("10.0.0.9:{port}"), "10.96.0.1:53", "10.1.0.5:5353"))
        .collect();
    table.insert(&flows).expect("insert");
    for gone in [5, 150, 299] {
        assert!(table.delete(&flows[gone]).expect("delete"));
    }
    let result = table.delete_all(&flows).expect("delete all");
    assert_eq!((result.deleted, result.gone), (297, 3));
    assert!(result.refused.is_empty(), "{:?}", result.refused);
    assert_eq!(table.count().expect("count"), 0);
    let nothing = table.delete_all(&[]).expect("nothing to delete");
    assert_eq!((nothing.deleted, nothing.gone), (0, 0));
}

fn zones_are_apart() {
    let mut table = table();
    let plain = flow(UDP, "10.0.0.9:4000", "10.96.0.1:53", "10.1.0.5:5353");
    let zoned = Flow { zone: 7, ..plain };
    table.insert(&[plain, zoned]).expect("insert");
    let mut filter = Filter::protocol(Family::V4, UDP);
    filter.original.destination_port = Some(53);
    let zone_numbers = |flows: &[Flow]| flows.iter().map(|f| f.zone).collect::<BTreeSet<_>>();
    assert_eq!(zone_numbers(&list(&mut table, &filter)), BTreeSet::from([0, 7]));
    assert!(table.delete(&zoned).expect("delete"));
    let left = list(&mut table, &filter);
    assert_eq!(zone_numbers(&left), BTreeSet::from([0]));
    assert!(!table.delete(&zoned).expect("gone"));
    assert!(table.delete(&left[0]).expect("delete"));
}

/// A datagram through a DNAT rule makes the flow that housekeeping looks for.
fn real_packets_through_dnat() {
    let mut table = table();
    for (iptables, frontend, endpoint) in
        [("iptables", "192.0.2.53", "127.0.0.1"), ("ip6tables", "2001:db8::53", "::1")]
    {
        let server = UdpSocket::bind((endpoint, 0)).expect("bind");
        let port = server.local_addr().expect("bound").port();
        let to = SocketAddr::new(endpoint.parse().expect("address"), port).to_string();
        let mut rule = vec!["-t", "nat", "-A", "OUTPUT", "-p", "udp", "-d", frontend];
        rule.extend(["-j", "DNAT", "--to-destination", &to]);
        run(iptables, &rule);
        run("ip", &["route", "add", frontend, "dev", "lo"]);

        let client = UdpSocket::bind((endpoint, 0)).expect("bind");
        client.send_to(b"question", (frontend, 53)).expect("send");
        let (_, from) = server.recv_from(&mut [0; 16]).expect("the datagram arrives");
        let mut filter = Filter::protocol(Family::of(from.ip()), UDP);
        filter.original.destination = Some(ip(frontend));
        filter.original.destination_port = Some(53);
        let flows = list(&mut table, &filter);
        let everything = all(&mut table, filter.family);
        assert_eq!(flows.len(), 1, "{everything:?}");
        let flow = flows[0];
        assert_eq!(flow.original.source_socket(), client.local_addr().ok());
        assert_eq!(flow.reply.source_socket(), server.local_addr().ok());
        assert!(flow.status.contains(Status::DESTINATION_NAT | Status::CONFIRMED));
        assert!(!flow.status.contains(Status::SEEN_REPLY));
        assert!(table.delete(&flow).expect("delete"));
        assert!(list(&mut table, &filter).is_empty());
    }
}

fn icmp_flow_round_trips() {
    let mut table = table();
    let icmp = |protocol, source: &str, destination: &str, kind| {
        Flow::new(Tuple {
            source: source.parse().expect("address"),
            destination: destination.parse().expect("address"),
            protocol,
            transport: Transport::Icmp { id: 77, kind, code: 0 },
            zone: None,
        })
    };
    let inserted = [icmp(1, "10.0.0.1", "10.0.0.2", 8), icmp(58, "fd00::1", "fd00::2", 128)];
    table.insert(&inserted).expect("insert");
    for flow in inserted {
        let listed = list(&mut table, &Filter::protocol(flow.family(), flow.original.protocol));
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].original, listed[0].reply), (flow.original, flow.reply));
        assert!(table.delete(&listed[0]).expect("delete"));
    }
    assert_eq!(table.count().expect("count"), 0);
}

fn insert_twice_exists() {
    let mut table = table();
    let flow = flow(UDP, "10.0.0.9:4000", "10.96.0.1:53", "10.1.0.5:5353");
    table.insert(&[flow]).expect("insert");
    let error = table.insert(&[flow]).expect_err("it is there");
    assert!(error.is_exists(), "{error}");
    let shown = error.to_string();
    let expected = "insert conntrack flow udp 10.0.0.9:4000 -> 10.96.0.1:53, \
                    reply 10.1.0.5:5353 -> 10.0.0.9:4000: the kernel refused: EEXIST";
    assert!(shown.starts_with(expected), "{shown}");
}

fn tcp_states() {
    let mut table = table();
    let plain = flow(TCP, "10.0.0.9:4000", "10.96.0.1:80", "10.1.0.5:8080");
    let sent = Flow { tcp_state: Some(TcpState::SYN_SENT), ..plain };
    let sent_v6 = flow(TCP, "[fd00::9]:4000", "[fd00:96::1]:80", "[fd00:1::5]:8080");
    let established = Flow { tcp_state: Some(TcpState::ESTABLISHED), ..sent_v6 };
    table.insert(&[sent, established]).expect("insert");
    for wanted in [sent, established] {
        let listed = list(&mut table, &Filter::protocol(wanted.family(), TCP));
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].tcp_state, wanted.tcp_state);
    }
}

/// The kernel answers for a closed port, in the name of the frontend.
fn redirected_connection_is_reset() {
    let mut table = table();
    for (iptables, frontend, endpoint) in
        [("iptables", "192.0.2.80", "127.0.0.1"), ("ip6tables", "2001:db8::80", "::1")]
    {
        let server = TcpListener::bind((endpoint, 0)).expect("bind");
        let to = server.local_addr().expect("bound").to_string();
        let mut rule = vec!["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", frontend];
        rule.extend(["-j", "DNAT", "--to-destination", &to]);
        run(iptables, &rule);
        run("ip", &["route", "add", frontend, "dev", "lo", "src", endpoint]);
        let mut client = TcpStream::connect((frontend, 80)).expect("connect");
        let (mut accepted, _) = server.accept().expect("accept");
        client.write_all(b"before").expect("write");
        accepted.read_exact(&mut [0; 6]).expect("read");

        let mut filter = Filter::protocol(Family::of(ip(frontend)), TCP);
        filter.original.destination = Some(ip(frontend));
        let flows = list(&mut table, &filter);
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].tcp_state, Some(TcpState::ESTABLISHED));
        assert!(table.delete(&flows[0]).expect("delete"));
        let nowhere = SocketAddr::new(ip(endpoint), 1);
        let status = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED;
        let replaced = Flow { id: None, status, ..flows[0] };
        let once = table.insert_redirected(&[replaced], nowhere).expect("insert");
        assert_eq!((once.inserted, once.there, &*once.refused), (1, 0, &[][..]));
        let again = table.insert_redirected(&[replaced], nowhere).expect("insert");
        assert_eq!((again.inserted, again.there, &*again.refused), (0, 1, &[][..]));
        let redirected = list(&mut table, &filter);
        assert_eq!(redirected[0].reply.source_socket(), Some(nowhere));

        client.write_all(b"after").expect("the buffer takes it");
        let error = client.read(&mut [0; 1]).expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

/// Many parts of a dump; every flow exactly once while the table is still.
fn large_table() {
    let mut table = table();
    let count = 20_000_u32;
    let flows: Vec<_> = (0..count)
        .map(|index| {
            let [_, high, middle, low] = index.to_be_bytes();
            let client = format!("10.{high}.{middle}.{low}:4000");
            flow(UDP, &client, "10.96.0.1:53", "10.1.0.5:5353")
        })
        .collect();
    table.insert(&flows).expect("insert");
    assert_eq!(table.count().expect("count"), count);
    let listed = list(&mut table, &Filter::protocol(Family::V4, UDP));
    assert_eq!(listed.len(), flows.len());
    assert_eq!(keys(&listed), keys(&flows));
    let result = table.delete_all(&listed).expect("delete all");
    assert_eq!(result.deleted, flows.len());
    assert_eq!(table.count().expect("count"), 0);
}
