use proptest::prelude::*;

use super::*;
use crate::message::Messages;
use crate::writer::Writer;

fn message(flags: u32, name: Option<&str>) -> Writer {
    let mut writer = Writer::new();
    let mut header = [0; HEADER_LEN];
    header[4..8].copy_from_slice(&7_u32.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    let body = |writer: &mut Writer| {
        writer.fixed(&header);
        writer.u32(4, 1500);
        if let Some(name) = name {
            writer.text(NAME, name);
        }
    };
    writer.message(kind::NEW_LINK, 0, 0, body).unwrap();
    writer
}

fn read(writer: &Writer) -> Result<Link, Malformed> {
    Link::read(&Messages::new(writer.as_bytes()).next().unwrap().unwrap())
}

#[test]
fn flags_and_name() {
    let link = |up, loopback| Link { index: 7, name: "eth0".to_owned(), up, loopback };
    assert_eq!(read(&message(0x1003, Some("eth0"))), Ok(link(true, false)));
    assert_eq!(read(&message(0x9, Some("eth0"))), Ok(link(true, true)));
    assert_eq!(read(&message(0x1002, Some("eth0"))), Ok(link(false, false)));
    assert!(read(&message(0, None)).is_err());
}

proptest! {
    #[test]
    fn nothing_panics_on_any_bytes(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let (kind, bytes) = (kind::NEW_LINK, &payload);
        let message = Message { kind, flags: 0, sequence: 0, port: 0, payload: &payload, bytes };
        let _ = Link::read(&message);
    }
}
