use proptest::prelude::*;

use super::*;
use crate::message::{DONE, ERROR, Messages};
use crate::writer::Writer;

/// An `NLMSG_ERROR` for a request with `body` bytes after its header.
fn error(code: i32, flags: u16, body: &[u8], attributes: impl FnOnce(&mut Writer)) -> Writer {
    let mut request = Writer::new();
    request.message(0x0a01, 1, 5, |writer| writer.fixed(body)).unwrap();
    let quoted =
        if flags & flags::CAPPED == 0 { request.as_bytes() } else { &request.as_bytes()[..16] };
    let mut writer = Writer::new();
    writer
        .message(ERROR, flags, 5, |writer| {
            writer.fixed(&code.to_ne_bytes());
            writer.fixed(quoted);
            attributes(writer);
        })
        .unwrap();
    writer
}

fn read(writer: &Writer) -> Result<Option<Reason>, Malformed> {
    read_error(&Messages::new(writer.as_bytes()).next().unwrap().unwrap())
}

fn explanation(writer: &mut Writer) {
    writer.text(ATTR_MESSAGE, "no such chain");
    writer.u32(ATTR_OFFSET, 36);
    writer.u32(ATTR_MISSING, 4);
}

fn expected() -> Reason {
    let message = Some("no such chain".to_owned());
    Reason { errno: Errno::ENOENT, code: 2, message, offset: Some(36), missing: Some(4) }
}

#[test]
fn zero_is_an_acknowledgement() {
    assert_eq!(read(&error(0, 0, &[], |_| ())), Ok(None));
    assert_eq!(read(&error(0, flags::CAPPED, &[1; 40], |_| ())), Ok(None));
}

#[test]
fn explanation_follows_the_quoted_request_capped_or_not() {
    let capped = flags::CAPPED | flags::ACK_ATTRIBUTES;
    assert_eq!(read(&error(-2, capped, &[1; 40], explanation)), Ok(Some(expected())));
    let whole = flags::ACK_ATTRIBUTES;
    assert_eq!(read(&error(-2, whole, &[1; 40], explanation)), Ok(Some(expected())));
    let refusal = expected().about(&"delete chain x");
    assert_eq!((refusal.object.as_str(), refusal.errno), ("delete chain x", Errno::ENOENT));
}

#[test]
fn without_explanation_the_number_counts() {
    let bare = Reason { errno: Errno::EPERM, code: 1, message: None, offset: None, missing: None };
    assert_eq!(read(&error(-1, flags::CAPPED, &[], |_| ())), Ok(Some(bare.clone())));
    // Attributes that cannot be read are as good as none.
    let garbage = |writer: &mut Writer| writer.fixed(&[3, 0, 0, 0]);
    let flags = flags::CAPPED | flags::ACK_ATTRIBUTES;
    assert_eq!(read(&error(-1, flags, &[], garbage)), Ok(Some(bare)));
}

#[test]
fn done_carries_a_code_or_none() {
    let done = |payload: &[u8]| {
        let mut writer = Writer::new();
        writer.message(DONE, 0, 5, |writer| writer.fixed(payload)).unwrap();
        read_done(&Messages::new(writer.as_bytes()).next().unwrap().unwrap())
    };
    assert_eq!(done(&[]), None);
    assert_eq!(done(&0_i32.to_ne_bytes()), None);
    // Some dumps end with a count.
    assert_eq!(done(&12_i32.to_ne_bytes()), None);
    assert_eq!(done(&(-4_i32).to_ne_bytes()).unwrap().errno, Errno::EINTR);
}

proptest! {
    #[test]
    fn never_panics(flags in any::<u16>(), payload in proptest::collection::vec(any::<u8>(), 0..120)) {
        let message = Message { kind: ERROR, flags, sequence: 1, port: 0, payload: &payload, bytes: &payload };
        let _ = read_error(&message);
        let _ = read_done(&message);
    }
}
