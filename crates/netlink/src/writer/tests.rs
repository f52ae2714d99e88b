use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::attr::{Attribute, Attributes};
use crate::message::Messages;

#[test]
fn layout_is_the_kernels() {
    let mut writer = Writer::new();
    writer
        .message(0x0a05, 0x0401, 3, |writer| {
            writer.fixed(&[2, 0, 0]);
            writer.text(1, "abc");
            writer.nest(2, |writer| {
                writer.u8(1, 9);
                writer.u16_be(2, 0x1234);
                writer.flag(3);
            });
            writer.address(4, Ipv4Addr::new(10, 0, 0, 1).into());
        })
        .unwrap();
    #[rustfmt::skip]
    let expected = if cfg!(target_endian = "little") {[
        60, 0, 0, 0, 0x05, 0x0a, 0x01, 0x04, 3, 0, 0, 0, 0, 0, 0, 0,
        2, 0, 0, 0,
        8, 0, 1, 0, b'a', b'b', b'c', 0,
        24, 0, 2, 0x80,
        5, 0, 1, 0, 9, 0, 0, 0,
        6, 0, 2, 0, 0x12, 0x34, 0, 0,
        4, 0, 3, 0,
        8, 0, 4, 0, 10, 0, 0, 1,
    ]} else {[
        0, 0, 0, 60, 0x0a, 0x05, 0x04, 0x01, 0, 0, 0, 3, 0, 0, 0, 0,
        2, 0, 0, 0,
        0, 8, 0, 1, b'a', b'b', b'c', 0,
        0, 24, 0x80, 2,
        0, 5, 0, 1, 9, 0, 0, 0,
        0, 6, 0, 2, 0x12, 0x34, 0, 0,
        0, 4, 0, 3,
        0, 8, 0, 4, 10, 0, 0, 1,
    ]};
    assert_eq!(writer.as_bytes(), expected);
}

#[test]
fn longest_value_fits_and_one_more_takes_the_message_back() {
    let mut writer = Writer::new();
    writer.message(1, 0, 1, |writer| writer.u32(1, 1)).unwrap();
    writer.message(1, 0, 2, |writer| writer.bytes(5, &vec![7; MAX_VALUE])).unwrap();
    let before = writer.as_bytes().to_vec();
    let error = writer
        .message(1, 0, 3, |writer| {
            writer.bytes(5, &vec![7; MAX_VALUE + 1]);
            writer.u32(6, 1);
        })
        .unwrap_err();
    assert_eq!(error, TooLong { kind: 5, length: MAX_VALUE + 1 });
    assert_eq!(writer.as_bytes(), before);
    // The next message is not held to account for the last one.
    writer.message(1, 0, 4, |writer| writer.u32(1, 1)).unwrap();
    assert_eq!(Messages::new(writer.as_bytes()).flatten().count(), 3);
}

#[test]
fn nest_that_is_too_long_names_itself() {
    let mut writer = Writer::new();
    let error = writer
        .message(1, 0, 1, |writer| {
            writer.nest(9, |writer| {
                for _ in 0..10_000 {
                    writer.u32(1, 1);
                }
            });
        })
        .unwrap_err();
    assert_eq!(error, TooLong { kind: 9, length: 80_000 });
    assert!(writer.is_empty());
    assert_eq!(error.to_string(), "netlink attribute 9 would have 80000 bytes, more than 65531");
}

#[test]
fn open_list_tells_its_length() {
    let mut writer = Writer::new();
    writer
        .message(1, 0, 1, |writer| {
            let list = writer.open(2);
            assert_eq!(writer.nested_len(&list), 0);
            writer.u8(1, 1);
            assert_eq!(writer.nested_len(&list), 8);
            writer.close(list);
        })
        .unwrap();
    assert_eq!(writer.len(), 16 + 4 + 8);
}

/// A tree of attributes.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Value(u16, Vec<u8>),
    Nest(u16, Vec<Node>),
}

fn node() -> impl Strategy<Value = Node> {
    let kind = 0..0x4000_u16;
    let leaf = (kind.clone(), proptest::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(kind, value)| Node::Value(kind, value));
    leaf.prop_recursive(4, 40, 6, move |inner| {
        (kind.clone(), proptest::collection::vec(inner, 0..6))
            .prop_map(|(kind, nodes)| Node::Nest(kind, nodes))
    })
}

fn write(writer: &mut Writer, node: &Node) {
    match node {
        Node::Value(kind, value) => writer.bytes(*kind, value),
        Node::Nest(kind, nodes) => {
            writer.nest(*kind, |writer| write_all(writer, nodes));
        }
    }
}

fn write_all(writer: &mut Writer, nodes: &[Node]) {
    for node in nodes {
        write(writer, node);
    }
}

/// Reads what should be there: the reader knows from its protocol what is nested.
fn read(attribute: Attribute<'_>, like: &Node) -> Node {
    match like {
        Node::Value(..) => Node::Value(attribute.kind, attribute.value.to_vec()),
        Node::Nest(_, likes) => Node::Nest(attribute.kind, read_all(attribute.nested(), likes)),
    }
}

fn read_all(attributes: Attributes<'_>, likes: &[Node]) -> Vec<Node> {
    let attributes: Vec<_> = attributes.map(Result::unwrap).collect();
    assert_eq!(attributes.len(), likes.len());
    attributes.into_iter().zip(likes).map(|(attribute, like)| read(attribute, like)).collect()
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        messages in proptest::collection::vec(
            (16..u16::MAX, any::<u16>(), any::<u32>(), proptest::collection::vec(node(), 0..5)),
            0..5,
        )
    ) {
        let mut writer = Writer::new();
        for (kind, flags, sequence, nodes) in &messages {
            writer
                .message(*kind, *flags, *sequence, |writer| {
                    write_all(writer, nodes);
                })
                .unwrap();
        }
        prop_assert_eq!(writer.len() % 4, 0);
        let read: Vec<_> = Messages::new(writer.as_bytes())
            .map(Result::unwrap)
            .zip(&messages)
            .map(|(message, (_, _, _, likes))| {
                let nodes = read_all(message.attributes(0).unwrap(), likes);
                (message.kind, message.flags, message.sequence, nodes)
            })
            .collect();
        prop_assert_eq!(read, messages);
    }
}
