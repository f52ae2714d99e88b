use std::fmt::Write as _;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn set_with_an_example_key_is_as_nft_writes_it() {
    use TypeOf::{DestinationPort, Ip4Destination, Ip6Destination, Slot, TransportProtocol};
    let port_slot = "01 0e 00 04 09000000 01 06 00 04 10000000 \
                     02 14 00 04 07000000 01 0c 00 04 0b000000 01 04 02000000 \
                     03 1a 00 04 17000000 01 12 00 04 01000000 01 04 02000000 02 04 00000000";
    let address = |header: &str, field: &str| {
        format!("00 14 00 04 07000000 01 0c 00 04 {header}000000 01 04 {field}000000")
    };
    let cases = [(Ip4Destination, "0c", "0c"), (Ip6Destination, "0d", "09")];
    for (ip, header, field) in cases {
        let data = SetUserData {
            key_in_network_order: false,
            key: &[ip, TransportProtocol, DestinationPort, Slot],
            data: &[ip, DestinationPort],
            comment: Some("hi"),
        };
        let address = address(header, field);
        let expected = format!(
            "00 04 00000000 01 04 00000000 \
             03 60 00 04 0d000000 01 58 {address} {port_slot} \
             04 34 00 04 0d000000 01 2c {address} 01 14 00 04 07000000 01 0c 00 04 0b000000 01 04 02000000 \
             07 03 686900"
        );
        assert_eq!(hex(&data.to_bytes()), expected.replace(' ', ""));
    }
}

#[test]
fn a_verdict_alone_is_no_concatenation() {
    let data = SetUserData { data: &[TypeOf::Verdict], ..SetUserData::default() };
    let expected = "00 04 00000000 01 04 00000000 04 08 00 04 01000000 01 00";
    assert_eq!(hex(&data.to_bytes()), expected.replace(' ', ""));
}

#[test]
fn key_order_is_told() {
    let data = SetUserData { key_in_network_order: true, ..SetUserData::default() };
    assert_eq!(hex(&data.to_bytes()), "000402000000010400000000");
}

#[test]
fn comments_are_read_back_and_cut() {
    assert_eq!(hex(&comment("abc")), "000461626300");
    assert_eq!(read_comment(&comment("abc")), Some("abc"));
    assert_eq!(read_comment(&comment("")), Some(""));
    // Two bytes each, so that the limit is in the middle of one.
    let long = "ü".repeat(100);
    assert_eq!(read_comment(&comment(&long)), Some("ü".repeat(63).as_str()));
    assert_eq!(cut(&"x".repeat(127)).len(), 127);
    assert_eq!(cut(&"x".repeat(128)).len(), 127);
}

#[test]
fn fingerprints_are_read_back() {
    let data = rule(Some("what for"), 0x0123_4567_89ab_cdef);
    assert_eq!(read_fingerprint(&data), Some(0x0123_4567_89ab_cdef));
    assert_eq!(read_comment(&data), Some("what for"));
    assert_eq!(read_comment(&rule(None, 1)), None);
    assert_eq!(read_fingerprint(&rule(None, 1)), Some(1));
    assert_eq!(read_fingerprint(&comment("foreign")), None);
}

#[test]
fn nonsense_is_not_read() {
    for bytes in [&[][..], &[0], &[0, 5, 1], &[RULE_FINGERPRINT, 3, 1, 2, 3], &[1, 1, 0, 0, 9]] {
        assert_eq!(read_comment(bytes), None, "{bytes:?}");
        assert_eq!(read_fingerprint(bytes), None, "{bytes:?}");
    }
    assert_eq!(read_comment(&[0, 2, 0xff, 0]), None);
}
