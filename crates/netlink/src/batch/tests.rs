use super::*;
use crate::netfilter::subsystem;

fn kinds(bytes: &[u8]) -> Vec<(u16, u16, u32)> {
    Messages::new(bytes)
        .map(|message| message.unwrap())
        .map(|message| (message.kind, message.flags, message.sequence))
        .collect()
}

fn add(batch: &mut Batch, operation: u8) {
    batch.add(operation, flags::CREATE, |writer| netfilter::header(writer, 2, 0)).unwrap();
}

#[test]
fn only_the_last_message_asks_for_an_acknowledgement() {
    let mut batch = Batch::new(subsystem::NF_TABLES);
    add(&mut batch, 1);
    add(&mut batch, 2);
    let plain = flags::REQUEST | flags::CREATE;
    let sent = batch.sealed(100, kinds);
    assert_eq!(
        sent,
        [
            (0x10, flags::REQUEST, 100),
            (0x0a01, plain, 101),
            (0x0a02, plain | flags::ACK, 102),
            (0x11, flags::REQUEST, 103),
        ]
    );
    assert_eq!(batch.sequences(), 4);
    // It can be sent again, under other numbers.
    let again = batch.sealed(7, kinds);
    assert_eq!(again.iter().map(|(_, _, sequence)| *sequence).collect::<Vec<_>>(), [7, 8, 9, 10]);
    assert_eq!(batch.len(), 2);
}

#[test]
fn begins_with_subsystem_and_generation() {
    let mut batch = Batch::new(subsystem::NF_TABLES);
    batch.clear(Some(0x0102_0304));
    add(&mut batch, 1);
    batch.sealed(1, |bytes| {
        let begin = Messages::new(bytes).next().unwrap().unwrap();
        assert_eq!(netfilter::read_header(&begin), Ok((0, 10)));
        let generation = begin.attributes(4).unwrap().find(ATTR_GENERATION).unwrap().unwrap();
        assert_eq!(generation.u32_be(), Ok(0x0102_0304));
    });
}

#[test]
fn refused_additions_leave_no_trace() {
    let mut batch = Batch::new(subsystem::NF_TABLES);
    add(&mut batch, 1);
    let size = batch.size();
    batch.add(2, 0, |writer| writer.bytes(1, &vec![0; 70_000])).unwrap_err();
    assert_eq!((batch.len(), batch.size()), (1, size));
    assert_eq!(batch.message(0).unwrap().kind, 0x0a01);
    assert_eq!(batch.message(1), None);
    assert_eq!(batch.message(usize::MAX), None);
    assert_eq!(batch.messages().count(), 1);
    batch.clear(None);
    assert!(batch.is_empty());
}
