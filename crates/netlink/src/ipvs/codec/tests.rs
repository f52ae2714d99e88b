use proptest::prelude::*;

use super::*;
use crate::message::Messages;

fn key() -> impl Strategy<Value = ServerKey> {
    prop_oneof![
        (any::<u8>(), any::<SocketAddr>()).prop_map(|(protocol, address)| ServerKey::Frontend {
            protocol,
            address: plain(address),
        }),
        (any::<bool>(), 1..u32::MAX).prop_map(|(v6, mark)| ServerKey::Mark { v6, mark }),
    ]
}

/// Without scope and flow label, which addresses of virtual servers do not have.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

fn written(change: &Change) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.message(0x20, 0, 1, |writer| write_change(writer, change)).unwrap();
    writer.as_bytes().to_vec()
}

fn only(bytes: &[u8]) -> Message<'_> {
    Messages::new(bytes).next().unwrap().unwrap()
}

proptest! {
    #[test]
    fn a_server_is_read_as_it_was_written(key in key(), scheduler in "[a-z]{1,8}", flags in any::<u32>(), timeout: u32) {
        let server = Server { scheduler, flags: flags & OWN_FLAGS, timeout };
        let bytes = written(&Change::Add(key, server.clone()));
        let found = decode_server(&only(&bytes)).unwrap().unwrap();
        prop_assert_eq!(found, Found { key, server, counters: Counters::default() });
    }

    #[test]
    fn a_destination_is_read_as_it_was_written(key in key(), to: SocketAddr, weight: u32) {
        let bytes = written(&Change::SetDestination(key, plain(to), weight));
        let found = decode_destination(&only(&bytes), false).unwrap().unwrap();
        prop_assert_eq!((found.address, found.weight, found.forwarding), (plain(to), weight, 0));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 20..200), kind in 1_u16..3) {
        // A frame that leads into the nested attributes.
        let length = bytes.len();
        bytes[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
        if length > 24 {
            let nested = u16::try_from(length - 20).unwrap();
            bytes[20..22].copy_from_slice(&nested.to_ne_bytes());
            bytes[22..24].copy_from_slice(&kind.to_ne_bytes());
        }
        for message in Messages::new(&bytes).flatten() {
            let _ = decode_server(&message);
            let _ = decode_destination(&message, true);
        }
    }
}

/// `ipvsadm -A -f 4097 -6 -s rr`, as the kernel reads it: family and mark, and neither protocol nor address.
#[test]
fn a_server_by_mark_has_no_address() {
    let key = ServerKey::Mark { v6: true, mark: 0x1001 };
    let bytes = written(&Change::Delete(key));
    // Headers of netlink and generic netlink, and the attribute that nests the others.
    let attributes = bytes.get(24..).unwrap();
    let family = [6, 0, 1, 0, 10, 0, 0, 0];
    let mark = [8, 0, 5, 0, 0x01, 0x10, 0, 0];
    assert_eq!(attributes, [family, mark].concat());
    assert_eq!(key.to_string(), "IPv6 mark 0x1001");
}
