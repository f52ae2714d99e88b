use proptest::prelude::*;

use super::*;
use crate::message::Messages;

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        any::<IpAddr>().prop_map(Entry::Ip),
        any::<u16>().prop_map(Entry::Port),
        any::<(IpAddr, u8, u16)>().prop_map(|(a, p, n)| Entry::IpPort(a, p, n)),
        any::<(IpAddr, u8, u16, u32, u32)>().prop_map(|(ip, protocol, port, bits, mask)| {
            Entry::IpPortMark { ip, protocol, port, mark: bits, mask }
        }),
        any::<(IpAddr, u8, u16, IpAddr)>().prop_map(|(a, p, n, b)| Entry::IpPortIp(a, p, n, b)),
        any::<(IpAddr, u8, u16, IpAddr, u8)>()
            .prop_map(|(a, p, n, b, l)| Entry::IpPortNet(a, p, n, b, l)),
    ]
}

fn message(writer: &Writer) -> Message<'_> {
    Messages::new(writer.as_bytes()).next().unwrap().unwrap()
}

proptest! {
    #[test]
    fn entries_are_read_as_they_were_written(entries in proptest::collection::vec(entry(), 0..50)) {
        let mut writer = Writer::new();
        let mut taken = 0;
        writer.message(0x609, 0, 1, |writer| {
            super::super::begin(writer);
            taken = write_entries(writer, &entries, 1000);
        }).unwrap();
        prop_assert!(taken == entries.len() || taken >= 10);
        prop_assert_eq!(&decode_members(&message(&writer)).unwrap(), &entries[..taken]);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut writer = Writer::new();
        writer.message(0x607, 0, 1, |writer| {
            super::super::begin(writer);
            writer.nest(LIST, |writer| writer.bytes(DATA, &bytes));
            writer.bytes(DATA, &bytes);
        }).unwrap();
        let _ = decode_members(&message(&writer));
        let _ = decode_header(&message(&writer));
    }
}
