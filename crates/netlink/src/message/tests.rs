use proptest::prelude::*;

use super::*;
use crate::writer::Writer;

fn two_messages() -> Writer {
    let mut writer = Writer::new();
    writer.message(20, flags::MULTI, 7, |writer| writer.fixed(&[1, 2, 3, 4])).unwrap();
    writer.message(21, 0, 8, |writer| writer.u32_be(9, 10)).unwrap();
    writer
}

#[test]
fn reads_header_fixed_part_and_attributes() {
    let writer = two_messages();
    let messages: Vec<_> = Messages::new(writer.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(messages.len(), 2);
    assert_eq!((messages[0].kind, messages[0].flags, messages[0].sequence), (20, 2, 7));
    assert_eq!(messages[0].fixed::<4>(), Ok(&[1, 2, 3, 4]));
    assert_eq!(messages[0].attributes(4).unwrap().count(), 0);
    let attribute = messages[1].attributes(0).unwrap().find(9).unwrap().unwrap();
    assert_eq!(attribute.u32_be(), Ok(10));
    assert_eq!(messages[1].attributes(0).unwrap().find(8), Ok(None));
}

#[test]
fn short_fixed_part_is_an_error() {
    let writer = two_messages();
    let message = Messages::new(writer.as_bytes()).next().unwrap().unwrap();
    let short = Malformed::ShortMessage { needed: 8, available: 4 };
    assert_eq!(message.fixed::<8>(), Err(short.clone()));
    assert_eq!(message.attributes(8).unwrap_err(), short);
    // A fixed part that ends the message may lack its padding.
    let unpadded = Message { payload: &message.payload[..3], ..message };
    assert_eq!(unpadded.attributes(3).unwrap().count(), 0);
}

#[test]
fn every_truncation_yields_what_is_whole_and_then_an_error() {
    let writer = two_messages();
    let bytes = writer.as_bytes();
    let first = 20;
    for end in 0..bytes.len() {
        let results: Vec<_> = Messages::new(&bytes[..end]).collect();
        let whole = usize::from(end >= first);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), whole, "{end}");
        let cut = end != 0 && end != first;
        assert_eq!(results.last().is_some_and(Result::is_err), cut, "{end}");
    }
}

#[test]
fn lying_lengths_are_errors() {
    for length in [0_u32, 15, 41, u32::MAX] {
        let mut bytes = two_messages().as_bytes()[..20].to_vec();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let results: Vec<_> = Messages::new(&bytes).collect();
        assert!(matches!(results[..], [Err(Malformed::ShortMessage { .. })]), "{length}");
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), fixed in 0..64_usize) {
        for message in Messages::new(&bytes).map_while(Result::ok) {
            let _ = message.fixed::<8>();
            if let Ok(attributes) = message.attributes(fixed) {
                let _ = attributes.count();
            }
        }
    }
}
