use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::message::Messages;

fn tuple(v6: bool, protocol: u8) -> impl Strategy<Value = Tuple> {
    let address = move || {
        any::<u128>().prop_map(move |bits| {
            let low = u32::try_from(bits & 0xffff_ffff).unwrap();
            if v6 { IpAddr::from(Ipv6Addr::from(bits)) } else { Ipv4Addr::from(low).into() }
        })
    };
    let transport = match protocol {
        1 | 58 => (any::<u16>(), any::<u8>(), any::<u8>())
            .prop_map(|(id, kind, code)| Transport::Icmp { id, kind, code })
            .boxed(),
        6 | 17 | 132 => any::<(u16, u16)>()
            .prop_map(|(source, destination)| Transport::Ports { source, destination })
            .boxed(),
        _ => Just(Transport::None).boxed(),
    };
    (address(), address(), transport, any::<Option<u16>>()).prop_map(
        move |(source, destination, transport, zone)| Tuple {
            source,
            destination,
            protocol,
            transport,
            zone,
        },
    )
}

fn flow() -> impl Strategy<Value = Flow> {
    let protocol = prop_oneof![Just(1), Just(6), Just(17), Just(58), Just(132), Just(47), Just(0)];
    (any::<bool>(), protocol)
        .prop_flat_map(|(v6, protocol)| {
            let rest = (any::<u16>(), any::<u32>(), any::<u32>(), any::<Option<u32>>());
            let rest = (rest, any::<Option<u8>>());
            (tuple(v6, protocol), tuple(v6, protocol), rest)
        })
        .prop_map(|(original, reply, ((zone, mark, status, timeout), tcp_state))| Flow {
            original,
            reply,
            id: None,
            zone,
            mark,
            status: Status(status),
            tcp_state: tcp_state.map(TcpState),
            timeout: timeout.map(|seconds| Duration::from_secs(seconds.into())),
        })
}

fn message_of(body: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::new();
    writer.message(0x0100, 0, 1, body).unwrap();
    writer
}

fn only(writer: &Writer) -> Message<'_> {
    Messages::new(writer.as_bytes()).next().unwrap().unwrap()
}

fn sample() -> Flow {
    Flow::new(Tuple::with_ports(
        17,
        "10.0.0.9:4000".parse().unwrap(),
        "10.96.0.1:53".parse().unwrap(),
    ))
}

#[test]
fn key_always_has_the_original_tuple() {
    let flow = Flow { id: Some(77), zone: 3, ..sample() };
    let writer = message_of(|writer| write_key(writer, &flow));
    let attributes = only(&writer).attributes(netfilter::HEADER_LEN).unwrap();
    let found: Vec<_> = attributes.map(|attribute| attribute.unwrap()).collect();
    assert_eq!(
        found.iter().map(|found| found.kind).collect::<Vec<_>>(),
        [cta::TUPLE_ORIG, cta::ZONE, cta::ID]
    );
    assert_eq!(read_tuple(found[0].nested()), Ok(flow.original));
    assert_eq!((found[1].u16_be(), found[2].u32_be()), (Ok(3), Ok(77)));
    assert_eq!(netfilter::read_header(&only(&writer)), Ok((2, 0)));
}

/// The flags of both directions in `CTA_FILTER`, if it is there.
fn filter_flags(filter: &Filter, in_kernel: bool) -> Option<(u32, u32)> {
    let writer = message_of(|writer| write_filter(writer, filter, in_kernel));
    let attributes = only(&writer).attributes(netfilter::HEADER_LEN).unwrap();
    let flags = attributes.clone().find(cta::FILTER).unwrap()?.nested();
    let flag = |kind| flags.clone().find(kind).unwrap().unwrap().u32().unwrap();
    let (original, reply) = (flag(filter::ORIG_FLAGS), flag(filter::REPLY_FLAGS));
    // A tuple is there exactly when something in it is to be compared.
    let has = |kind| attributes.clone().find(kind).unwrap().is_some();
    assert_eq!(has(cta::TUPLE_ORIG), original != 0);
    assert_eq!(has(cta::TUPLE_REPLY), reply != 0);
    Some((original, reply))
}

#[test]
fn kernel_is_asked_only_what_it_answers_rightly() {
    use filter::{DST_PORT, IP_DST, PROTO_NUM, SRC_PORT};
    let mut filter = Filter::family(Family::V4);
    assert_eq!(filter_flags(&filter, true), None);
    filter.protocol = Some(17);
    assert_eq!(filter_flags(&filter, true), Some((PROTO_NUM, 0)));
    assert_eq!(filter_flags(&filter, false), None);
    filter.original.destination = Some("10.96.0.1".parse().unwrap());
    filter.original.destination_port = Some(53);
    filter.reply.source_port = Some(5353);
    let expected = (IP_DST | PROTO_NUM | DST_PORT, PROTO_NUM | SRC_PORT);
    assert_eq!(filter_flags(&filter, true), Some(expected));
    // Ports of an unknown protocol, or of one without ports.
    filter.protocol = None;
    assert_eq!(filter_flags(&filter, true), Some((IP_DST, 0)));
    filter.protocol = Some(1);
    assert_eq!(filter_flags(&filter, true), Some((IP_DST | PROTO_NUM, PROTO_NUM)));
    // IPv6 addresses, and addresses of the other family.
    filter.family = Family::V6;
    filter.protocol = None;
    assert_eq!(filter_flags(&filter, true), None);
    filter.original.destination = Some("fd00::1".parse().unwrap());
    assert_eq!(filter_flags(&filter, true), None);
    filter.family = Family::V4;
    assert_eq!(filter_flags(&filter, true), None);
}

#[test]
fn unanswered_flows_are_asked_for_by_status() {
    let mut filter = Filter::family(Family::V6);
    let asked = |filter: &Filter, in_kernel| {
        let writer = message_of(|writer| write_filter(writer, filter, in_kernel));
        let attributes = only(&writer).attributes(netfilter::HEADER_LEN).unwrap();
        let number = |kind| attributes.clone().find(kind).unwrap().map(|a| a.u32_be().unwrap());
        (number(cta::STATUS), number(cta::STATUS_MASK))
    };
    assert_eq!(asked(&filter, true), (None, None));
    filter.unanswered = true;
    assert_eq!(asked(&filter, true), (Some(0), Some(Status::SEEN_REPLY.0)));
    assert_eq!(asked(&filter, false), (None, None));
    let unanswered = Flow::new(sample().original);
    let answered = Flow { status: Status::SEEN_REPLY | Status::CONFIRMED, ..unanswered };
    filter.family = Family::V4;
    assert_eq!([&unanswered, &answered].map(|flow| filter.matches(flow)), [true, false]);
}

#[test]
fn incomplete_flows_are_errors() {
    let no_reply = message_of(|writer| write_key(writer, &sample()));
    assert_eq!(read_flow(&only(&no_reply)), Err(Malformed::Missing { what: "the reply tuple" }));
    let empty_tuple = message_of(|writer| {
        netfilter::header(writer, 2, 0);
        writer.nest(cta::TUPLE_ORIG, |_| ());
    });
    assert_eq!(
        read_flow(&only(&empty_tuple)),
        Err(Malformed::Missing { what: "a source address" })
    );
}

#[test]
fn flows_print_as_one_line() {
    let mut flow = Flow { zone: 4, ..sample() };
    assert_eq!(
        flow.to_string(),
        "udp 10.0.0.9:4000 -> 10.96.0.1:53, reply 10.96.0.1:53 -> 10.0.0.9:4000, zone 4"
    );
    flow.original.protocol = 1;
    flow.original.transport = Transport::Icmp { id: 5, kind: 8, code: 0 };
    flow = Flow::new(flow.original);
    assert_eq!(
        flow.to_string(),
        "icmp 10.0.0.9 -> 10.96.0.1 type 8 code 0 id 5, \
         reply 10.96.0.1 -> 10.0.0.9 type 0 code 0 id 5"
    );
    flow.original.protocol = 47;
    flow.original.transport = Transport::None;
    assert!(flow.to_string().starts_with("protocol 47 10.0.0.9 -> 10.96.0.1, reply "));
}

proptest! {
    #[test]
    fn flows_round_trip(flow in flow()) {
        let writer = message_of(|writer| write_flow(writer, &flow));
        prop_assert_eq!(read_flow(&only(&writer)), Ok(flow));
    }

    #[test]
    fn reading_never_panics(flow in flow(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let writer = message_of(|writer| write_flow(writer, &flow));
        let mut bytes = writer.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for message in Messages::new(&bytes).map_while(Result::ok) {
            let _ = read_flow(&message);
        }
        for message in Messages::new(&bytes[..at]).map_while(Result::ok) {
            let _ = read_flow(&message);
        }
        let payload = &bytes[16..];
        for end in 0..payload.len() {
            let message = Message { kind: 0, flags: 0, sequence: 0, port: 0, payload: &payload[..end], bytes: &[] };
            let _ = read_flow(&message);
        }
    }
}
