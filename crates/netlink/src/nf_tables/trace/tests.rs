use proptest::prelude::*;

use super::*;
use crate::message::Messages;
use crate::nf_tables::verdict::write_verdict;
use crate::writer::Writer;

const KIND: u16 = netfilter::kind(subsystem::NF_TABLES, operation::TRACE);

fn message(kind: u16, body: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::new();
    writer
        .message(kind, 0, 0, |writer| {
            netfilter::header(writer, 2, 0);
            writer.u32_be(trace::ID, 0xab);
            writer.text(trace::TABLE, "kube-proxy");
            writer.text(trace::CHAIN, "services");
            body(writer);
        })
        .unwrap();
    writer
}

fn step(writer: &Writer) -> Result<Option<Step<'_>>, Malformed> {
    Step::read(&Messages::new(writer.as_bytes()).next().unwrap().unwrap())
}

fn bare(decision: Decision, verdict: Verdict<'static>) -> Step<'static> {
    Step {
        id: 0xab,
        family: 2,
        table: "kube-proxy".into(),
        chain: "services".into(),
        decision,
        verdict,
        network: None,
        transport: None,
        mark: 0,
        input: None,
        output: None,
    }
}

#[test]
fn rule_with_headers() {
    let header = [0x45_u8; 20];
    let writer = message(KIND, |writer| {
        writer.u32_be(trace::TYPE, trace::TYPE_RULE);
        writer.u64_be(trace::RULE_HANDLE, 7);
        writer.nest(trace::VERDICT, |writer| {
            let mut inner = Writer::new();
            write_verdict(&mut inner, &Verdict::Goto("cluster-3".into()));
            // The kernel nests the verdict once, data of rules twice.
            writer.fixed(&inner.as_bytes()[4..]);
        });
        writer.bytes(trace::NETWORK_HEADER, &header);
        writer.bytes(trace::TRANSPORT_HEADER, &[0, 1, 0, 80]);
        writer.u32_be(trace::MARK, 0x4000);
        writer.u32_be(trace::INPUT_INTERFACE, 3);
        writer.u32_be(trace::PROTOCOL_FAMILY, 10);
    });
    let expected = Step {
        family: 10,
        network: Some(&header),
        transport: Some(&[0, 1, 0, 80]),
        mark: 0x4000,
        input: Some(3),
        ..bare(Decision::Rule(7), Verdict::Goto("cluster-3".into()))
    };
    assert_eq!(step(&writer), Ok(Some(expected)));
}

#[test]
fn end_of_chain_and_policy() {
    let unnamed = message(KIND, |writer| {
        writer.u32_be(trace::TYPE, trace::TYPE_RULE);
        writer.nest(trace::VERDICT, |writer| writer.u32_be(1, u32::MAX));
    });
    assert_eq!(step(&unnamed), Ok(Some(bare(Decision::End, Verdict::Continue))));
    let end = message(KIND, |writer| {
        writer.u32_be(trace::TYPE, trace::TYPE_RETURN);
        writer.nest(trace::VERDICT, |writer| writer.u32_be(1, u32::MAX));
    });
    assert_eq!(step(&end), Ok(Some(bare(Decision::End, Verdict::Continue))));
    for (policy, verdict) in [(0, Verdict::Drop), (1, Verdict::Accept)] {
        let writer = message(KIND, |writer| {
            writer.u32_be(trace::TYPE, trace::TYPE_POLICY);
            writer.u32_be(trace::POLICY, policy);
        });
        assert_eq!(step(&writer), Ok(Some(bare(Decision::Policy, verdict))));
    }
}

#[test]
fn what_is_missing_is_an_error_and_other_messages_are_no_step() {
    let no_type = message(KIND, |_| {});
    assert_eq!(step(&no_type), Err(Malformed::Missing { what: "the type of a step" }));
    let no_verdict = message(KIND, |writer| writer.u32_be(trace::TYPE, trace::TYPE_RULE));
    assert_eq!(step(&no_verdict), Err(Malformed::Missing { what: "the verdict of a rule" }));
    let other = message(netfilter::kind(subsystem::NF_TABLES, operation::NEW_RULE), |_| {});
    assert_eq!(step(&other), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_are_a_step_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut writer = Writer::new();
        writer.message(KIND, 0, 0, |writer| writer.fixed(&bytes)).unwrap();
        for message in Messages::new(writer.as_bytes()).flatten() {
            let _ = Step::read(&message);
        }
    }
}
