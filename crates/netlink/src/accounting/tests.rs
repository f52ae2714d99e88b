use proptest::prelude::*;

use super::*;
use crate::message::Messages;

/// The answer of the kernel to a request for one object.
fn answer(writer: &mut Writer, counter: &Counter) {
    let kind = netfilter::kind(subsystem::ACCOUNTING, operation::NEW);
    writer
        .message(kind, 0, 1, |writer| {
            write_name(writer, &counter.name);
            writer.u64_be(attribute::PACKETS, counter.packets);
            writer.u64_be(attribute::BYTES, counter.bytes);
            // NFACCT_USE
            writer.u32_be(4, 2);
        })
        .unwrap();
}

fn message(writer: &Writer) -> Message<'_> {
    Messages::new(writer.as_bytes()).next().unwrap().unwrap()
}

#[test]
fn a_request_is_the_bytes_of_the_kernel_header() {
    let mut writer = Writer::new();
    let Request { kind, .. } = request(operation::GET, 0, &"");
    writer.message(kind, 1, 7, |writer| write_name(writer, "abc")).unwrap();
    let bytes = writer.as_bytes();
    assert_eq!(&bytes[..4], 28_u32.to_ne_bytes());
    // NFNL_SUBSYS_ACCT << 8 | NFNL_MSG_ACCT_GET
    assert_eq!(&bytes[4..6], 0x701_u16.to_ne_bytes());
    assert_eq!(&bytes[16..20], [0; 4]);
    assert_eq!(&bytes[20..22], 8_u16.to_ne_bytes());
    assert_eq!(&bytes[22..24], 1_u16.to_ne_bytes());
    assert_eq!(&bytes[24..], b"abc\0");
}

#[test]
fn an_object_without_numbers_is_malformed() {
    let mut writer = Writer::new();
    writer.message(0x700, 0, 1, |writer| write_name(writer, "abc")).unwrap();
    let what = "packets of an accounting object";
    assert_eq!(decode(&message(&writer)), Err(Malformed::Missing { what }));
}

proptest! {
    #[test]
    fn objects_are_read_as_they_were_written(
        name in "[a-z_]{1,31}", packets in any::<u64>(), bytes in any::<u64>(),
    ) {
        let counter = Counter { name, packets, bytes };
        let mut writer = Writer::new();
        answer(&mut writer, &counter);
        prop_assert_eq!(decode(&message(&writer)).unwrap(), counter);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), kind in 0_u16..6) {
        let mut writer = Writer::new();
        writer.message(0x700, 0, 1, |writer| {
            writer.fixed(&bytes);
            writer.bytes(kind, &bytes);
        }).unwrap();
        let _ = decode(&message(&writer));
        writer.clear();
        writer.message(0x700, 0, 1, |writer| {
            netfilter::header(writer, 0, 0);
            writer.bytes(kind, &bytes);
        }).unwrap();
        let _ = decode(&message(&writer));
    }
}
