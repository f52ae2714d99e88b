use proptest::prelude::*;

use super::*;
use crate::conntrack::{Status, Tuple};
use crate::message::Messages;
use crate::netfilter;
use crate::writer::Writer;

fn flow() -> Flow {
    let client = "10.0.0.9:4000".parse().unwrap();
    let mut flow = Flow::new(Tuple::with_ports(6, client, "10.96.0.1:80".parse().unwrap()));
    flow.reply = Tuple::with_ports(6, "10.244.1.5:8080".parse().unwrap(), client);
    flow.status = Status::CONFIRMED | Status::DESTINATION_NAT;
    flow.mark = 0x4000;
    flow
}

fn event(kind: u16, flags: u16) -> Result<Option<FlowEvent>, Malformed> {
    let mut writer = Writer::new();
    writer.message(kind, flags, 0, |writer| codec::write_flow(writer, &flow())).unwrap();
    read(&Messages::new(writer.as_bytes()).next().unwrap().unwrap())
}

#[test]
fn type_and_flags_say_what_became_of_the_flow() {
    let new = netfilter::kind(subsystem::CONNTRACK, operation::NEW);
    let delete = netfilter::kind(subsystem::CONNTRACK, operation::DELETE);
    let began = event(new, flags::CREATE | flags::EXCLUSIVE).unwrap();
    assert_eq!(began, Some(FlowEvent::Began(flow())));
    assert_eq!(event(new, 0).unwrap(), Some(FlowEvent::Changed(flow())));
    assert_eq!(event(delete, 0).unwrap(), Some(FlowEvent::Ended(flow())));
    // An expectation, and another subsystem.
    assert_eq!(event(netfilter::kind(2, 0), flags::CREATE).unwrap(), None);
    assert_eq!(event(netfilter::kind(subsystem::CONNTRACK, 5), 0).unwrap(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(
        kind in 0x0100_u16..0x0103,
        flags in any::<u16>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut writer = Writer::new();
        writer.message(kind, flags, 0, |writer| writer.fixed(&bytes)).unwrap();
        for message in Messages::new(writer.as_bytes()).flatten() {
            let _ = read(&message);
        }
    }
}
