use proptest::prelude::*;

use super::*;
use crate::message::Messages;
use crate::writer::Writer;

fn message(header: [u8; 8], attributes: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::new();
    writer
        .message(20, 0, 0, |writer| {
            writer.fixed(&header);
            attributes(writer);
        })
        .unwrap();
    writer
}

fn read(writer: &Writer) -> Result<Option<Address>, Malformed> {
    Address::read(&Messages::new(writer.as_bytes()).next().unwrap().unwrap())
}

fn header(family: u8, prefix_len: u8, flags: u8, scope: u8) -> [u8; 8] {
    let [a, b, c, d] = 3_u32.to_ne_bytes();
    [family, prefix_len, flags, scope, a, b, c, d]
}

#[test]
fn own_address_wins_over_the_peers() {
    let (own, peer) = ("198.51.100.1".parse().unwrap(), "198.51.100.2".parse().unwrap());
    let writer = message(header(2, 32, 0x80, 0), |writer| {
        writer.address(attribute::ADDRESS, peer);
        writer.address(attribute::LOCAL, own);
        writer.text(attribute::LABEL, "eth0:1");
    });
    let expected = Address {
        address: own,
        prefix_len: 32,
        interface: 3,
        scope: Scope::Global,
        flags: AddressFlags::PERMANENT,
        label: Some("eth0:1".to_owned()),
    };
    assert_eq!(read(&writer), Ok(Some(expected)));
}

#[test]
fn long_flags_win_over_the_short_ones() {
    let writer = message(header(10, 64, 0x80, 253), |writer| {
        writer.address(attribute::ADDRESS, "fe80::1".parse().unwrap());
        writer.u32(attribute::FLAGS, 0x840);
    });
    let address = read(&writer).unwrap().unwrap();
    assert_eq!((address.flags, address.scope), (AddressFlags(0x840), Scope::Link));
    assert!(address.flags.contains(AddressFlags::TENTATIVE) && !address.is_usable());
}

#[test]
fn usable_unless_detection_waits_or_failed() {
    let usable = |flags: u32| {
        Address {
            address: "fd00::1".parse().unwrap(),
            prefix_len: 64,
            interface: 1,
            scope: Scope::Global,
            flags: AddressFlags(flags),
            label: None,
        }
        .is_usable()
    };
    assert!(usable(0) && usable(0x80) && usable(0x20));
    assert!(!usable(0x40) && usable(0x44) && !usable(0x08) && !usable(0x0c));
}

#[test]
fn other_families_are_skipped_and_broken_ones_are_errors() {
    assert_eq!(read(&message(header(7, 0, 0, 0), |_| ())), Ok(None));
    let missing = Malformed::Missing { what: "an address" };
    assert_eq!(read(&message(header(2, 0, 0, 0), |_| ())), Err(missing));
    let wrong_size = message(header(10, 64, 0, 0), |writer| writer.u32(attribute::LOCAL, 1));
    let error = Malformed::AttributeLength { kind: attribute::LOCAL, length: 4, expected: 16 };
    assert_eq!(read(&wrong_size), Err(error));
}

proptest! {
    #[test]
    fn never_panics(mut payload in proptest::collection::vec(any::<u8>(), 0..100), family in 0_u8..12) {
        if let Some(first) = payload.first_mut() {
            *first = family;
        }
        let message = Message { kind: 20, flags: 0, sequence: 0, port: 0, payload: &payload, bytes: &payload };
        let _ = Address::read(&message);
    }
}
