use std::net::SocketAddr;

use super::*;
use crate::ipvs::{Change, ServerKey, write_change};

/// Kinds, commands and sequence numbers of the messages in the datagrams that these changes become.
fn datagrams(changes: &[Change]) -> Vec<Vec<(u16, u8, u32)>> {
    let request = Request { kind: 0x20, flags: 0, object: &"IPVS" };
    let mut writer = Writer::new();
    let datagrams = changes.chunks(AT_ONCE).map(|changes| {
        let body = |change: &Change, writer: &mut Writer| write_change(writer, change);
        write_many(&mut writer, request, 7, changes, &body).unwrap();
        let messages = Messages::new(writer.as_bytes()).map(|message| {
            let message = message.unwrap();
            (message.kind, message.payload[0], message.sequence)
        });
        messages.collect()
    });
    datagrams.collect()
}

#[test]
fn each_change_is_one_message_and_many_are_one_datagram() {
    let key = ServerKey::Frontend { protocol: 6, address: "10.96.0.1:80".parse().unwrap() };
    let to = |number: u16| SocketAddr::from(([10, 244, 1, 1], number));
    // An endpoint that goes and one that comes.
    let one = [Change::SetDestination(key, to(1), 0), Change::AddDestination(key, to(2), 1)];
    assert_eq!(datagrams(&one), [[(0x20, 6, 7), (0x20, 5, 8)]]);
    let many: Vec<Change> =
        (0..1000).map(|number| Change::AddDestination(key, to(number), 1)).collect();
    let sizes: Vec<usize> = datagrams(&many).iter().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), many.len());
    assert_eq!(sizes.len(), many.len().div_ceil(AT_ONCE));
}
