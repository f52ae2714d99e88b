use super::*;

const KIND: u16 = 0x0100;

/// A datagram of messages of the dump with sequence number 5.
fn datagram(messages: &[(u16, u16, u32, &[u8])]) -> Writer {
    let mut writer = Writer::new();
    for (kind, flags, sequence, payload) in messages {
        writer.message(*kind, *flags, *sequence, |writer| writer.fixed(payload)).unwrap();
    }
    writer
}

struct Read {
    state: State,
    outcome: Taken,
    seen: Vec<Vec<u8>>,
}

fn take(bytes: &[u8], result: &Result<(), Malformed>) -> Read {
    let mut state = State { end: DumpEnd::Complete, malformed: None };
    let mut seen = Vec::new();
    let outcome = state.take(bytes, 5, &mut |message| {
        seen.push(message.payload.to_vec());
        result.clone()
    });
    Read { state, outcome, seen }
}

#[test]
fn hands_out_until_done() {
    let bytes =
        datagram(&[(KIND, flags::MULTI, 5, &[1, 0, 0, 0]), (KIND, flags::MULTI, 5, &[2, 0, 0, 0])]);
    let taken = take(bytes.as_bytes(), &Ok(()));
    assert_eq!(taken.outcome, Taken::More);
    assert_eq!(taken.seen, [[1, 0, 0, 0], [2, 0, 0, 0]]);
    let bytes = datagram(&[(KIND, 2, 5, &[3, 0, 0, 0]), (message::DONE, 2, 5, &[0; 4])]);
    let taken = take(bytes.as_bytes(), &Ok(()));
    assert_eq!((taken.outcome, taken.seen.len()), (Taken::End, 1));
    assert_eq!(taken.state.end, DumpEnd::Complete);
}

#[test]
fn other_requests_and_noise_are_skipped() {
    let bytes = datagram(&[
        (KIND, 0, 4, &[1, 0, 0, 0]),
        (message::DONE, 0, 4, &[0; 4]),
        (1, 0, 5, &[]),
        (KIND, 0, 5, &[2, 0, 0, 0]),
    ]);
    let taken = take(bytes.as_bytes(), &Ok(()));
    assert_eq!((taken.outcome, taken.seen), (Taken::More, vec![vec![2, 0, 0, 0]]));
}

#[test]
fn interruption_is_noticed_on_any_message() {
    for kind in [KIND, message::DONE] {
        let bytes = datagram(&[(kind, flags::DUMP_INTERRUPTED, 5, &[0; 4])]);
        assert_eq!(take(bytes.as_bytes(), &Ok(())).state.end, DumpEnd::Partial);
    }
    let bytes = datagram(&[(message::OVERRUN, 0, 5, &[])]);
    assert_eq!(take(bytes.as_bytes(), &Ok(())).state.end, DumpEnd::Partial);
}

#[test]
fn errors_end_the_dump() {
    let mut quoted = (-22_i32).to_ne_bytes().to_vec();
    quoted.extend([0; 16]);
    let bytes = datagram(&[(message::ERROR, flags::CAPPED, 5, &quoted)]);
    let outcome = take(bytes.as_bytes(), &Ok(())).outcome;
    assert!(matches!(outcome, Taken::Refused(reason) if reason.errno == Errno::EINVAL));
    // An error that is too short to be read ends it too, as malformed.
    let bytes = datagram(&[(message::ERROR, 0, 5, &[0; 4])]);
    let taken = take(bytes.as_bytes(), &Ok(()));
    assert_eq!(taken.outcome, Taken::End);
    assert!(taken.state.malformed.is_some());
}

#[test]
fn reads_on_to_the_end_after_a_bad_message() {
    let bytes = datagram(&[
        (KIND, 0, 5, &[1, 0, 0, 0]),
        (KIND, 0, 5, &[2, 0, 0, 0]),
        (message::DONE, 0, 5, &[0; 4]),
    ]);
    let bad = Malformed::Missing { what: "anything" };
    let taken = take(bytes.as_bytes(), &Err(bad.clone()));
    assert_eq!(taken.seen.len(), 1);
    assert_eq!((taken.outcome, taken.state.malformed), (Taken::End, Some(bad)));
    let cut = &bytes.as_bytes()[..30];
    assert!(take(cut, &Ok(())).state.malformed.is_some());
}
