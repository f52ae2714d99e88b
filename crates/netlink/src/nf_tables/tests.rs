use proptest::prelude::*;

use super::*;
use crate::message::{HEADER_LEN, Messages};

fn transaction() -> Transaction {
    Transaction::new(Family::V4, "t")
}

/// The messages of a transaction as their operations.
fn operations(transaction: &Transaction) -> Vec<u8> {
    transaction.batch.messages().map(|message| message.kind.to_be_bytes()[1]).collect()
}

#[derive(Clone, Debug)]
struct Owned {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    interval_end: bool,
    data: Option<OwnedData>,
    timeout: Option<u64>,
    expiration: Option<u64>,
    comment: Option<String>,
    counter: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
enum OwnedData {
    Value(Vec<u8>),
    Verdict(Verdict<'static>),
}

impl Owned {
    fn element(&self) -> Element<'_> {
        Element {
            key: &self.key,
            key_end: self.key_end.as_deref(),
            interval_end: self.interval_end,
            data: self.data.as_ref().map(|data| match data {
                OwnedData::Value(value) => Data::Value(value),
                OwnedData::Verdict(verdict) => Data::Verdict(verdict.clone()),
            }),
            timeout: self.timeout,
            expiration: self.expiration,
            comment: self.comment.as_deref(),
            counter: self.counter.map(|(packets, bytes)| Count { packets, bytes }),
        }
    }
}

fn data() -> impl Strategy<Value = OwnedData> {
    let verdict = prop_oneof![
        Just(Verdict::Drop),
        Just(Verdict::Accept),
        Just(Verdict::Return),
        "[a-z]{1,20}".prop_map(|chain| Verdict::Goto(chain.into())),
        "[a-z]{1,20}".prop_map(|chain| Verdict::Jump(chain.into())),
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64).prop_map(OwnedData::Value),
        verdict.prop_map(OwnedData::Verdict),
    ]
}

fn element() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..64);
    let comment = prop::option::of("[a-z/:]{0,100}");
    let times = (prop::option::of(any::<u64>()), prop::option::of(any::<u64>()));
    let rest = (any::<bool>(), prop::option::of(data()), times, comment);
    let counter = prop::option::of(any::<(u64, u64)>());
    (bytes(), prop::option::of(bytes()), rest, counter).prop_map(
        |(key, key_end, (interval_end, data, (timeout, expiration), comment), counter)| Owned {
            key,
            key_end,
            interval_end,
            data,
            timeout,
            expiration,
            comment,
            counter,
        },
    )
}

#[test]
fn notices_name_the_table_of_every_kind_of_object() {
    let mut transaction = transaction();
    transaction.add_table(&[]).unwrap();
    transaction.add_chain("c", None, "").unwrap();
    transaction.add_rule("c", &[Expression::Counter], &[]).unwrap();
    transaction.flush_chain("c").unwrap();
    let one = [[1_u8; 4]];
    let key = |key: &[u8; 4], hand_on: &mut dyn FnMut(&Element<'_>)| {
        hand_on(&Element { key, ..Element::default() });
    };
    transaction.add_elements("s", one, key).unwrap();
    transaction.delete_elements("s", one, key).unwrap();
    transaction.delete_chain("c").unwrap();
    transaction.delete_table().unwrap();
    let mut gone = Vec::new();
    for message in transaction.batch.messages() {
        let notice = Notice::read(&message).unwrap().unwrap();
        let Notice { family, table, port, elements_gone_from } = notice;
        assert_eq!((family, &*table, port), (2, "t", 0));
        gone.extend(elements_gone_from);
    }
    assert_eq!(gone, ["s"]);
}

#[test]
fn flowtables_are_read_as_they_were_written() {
    let mut transaction = transaction();
    let devices: Vec<_> = (0..300).map(|number| format!("eth{number}")).collect();
    transaction.add_flowtable("f").unwrap();
    transaction.add_devices("f", &devices).unwrap();
    let read: Vec<_> = transaction.batch.messages().map(|m| Flowtable::read(&m).unwrap()).collect();
    assert_eq!(read.iter().map(|read| read.devices.len()).collect::<Vec<_>>(), [0, 128, 128, 44]);
    assert!(read.iter().all(|read| (read.table.as_str(), read.name.as_str()) == ("t", "f")));
    assert!(read.iter().flat_map(|read| &read.devices).eq(&devices));
}

proptest! {
    #[test]
    fn elements_are_read_as_they_were_written(elements in prop::collection::vec(element(), 0..40)) {
        let mut transaction = transaction();
        transaction
            .add_elements("s", &elements, |item, hand_on| hand_on(&item.element()))
            .unwrap();
        let mut index = 0;
        for message in transaction.batch.messages() {
            read_elements(&message, &mut |element| {
                assert_eq!(*element, elements[index].element());
                index += 1;
            })
            .unwrap();
        }
        prop_assert_eq!(index, elements.len());
        prop_assert_eq!(transaction.elements(), elements.len());
    }

    #[test]
    fn nothing_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_anything(&bytes);
    }

    #[test]
    fn nothing_panics_on_broken_messages(
        elements in prop::collection::vec(element(), 1..4),
        breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut transaction = transaction();
        transaction
            .add_elements("s", &elements, |item, hand_on| hand_on(&item.element()))
            .unwrap();
        let message = transaction.batch.messages().next().unwrap();
        let mut bytes = message.payload.to_vec();
        for (index, value) in breaks {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        read_anything(&bytes);
    }
}

/// Reads a payload as every kind of message, and names its object at every place.
fn read_anything(payload: &[u8]) {
    let mut bytes = u32::try_from(payload.len() + HEADER_LEN).unwrap().to_ne_bytes().to_vec();
    bytes.extend([0; HEADER_LEN - 4]);
    bytes.extend_from_slice(payload);
    let mut message = Messages::new(&bytes).next().unwrap().unwrap();
    let _ = Table::read(&message);
    let _ = Chain::read(&message);
    let _ = Set::read(&message);
    let _ = Flowtable::read(&message);
    let _ = read_elements(&message, &mut |_| {});
    for operation in 0..30 {
        message.kind = netfilter::kind(subsystem::NF_TABLES, operation);
        let _ = Notice::read(&message);
        for place in (0..bytes.len()).step_by(4) {
            assert!(!describe::describe(&message, Some(place)).object.is_empty());
        }
    }
}

#[test]
fn long_lists_take_several_messages() {
    let mut transaction = transaction();
    let keys: Vec<[u8; 4]> = (0..20_000_u32).map(u32::to_be_bytes).collect();
    let describe = |key: &&[u8; 4], hand_on: &mut dyn FnMut(&Element<'_>)| {
        hand_on(&Element { key: &key[..], ..Element::default() });
    };
    transaction.add_elements("s", &keys, describe).unwrap();
    transaction.delete_elements("s", &keys, describe).unwrap();
    // 16 bytes each.
    let messages = 20_000_usize.div_ceil((60 << 10) / 16);
    assert_eq!(transaction.len(), 2 * messages);
    assert_eq!(transaction.elements(), 40_000);
    let mut seen = Vec::new();
    for message in transaction.batch.messages().take(messages) {
        assert!(message.bytes.len() < 64 << 10);
        read_elements(&message, &mut |element| seen.push(element.key.to_vec())).unwrap();
    }
    assert!(seen.iter().eq(keys.iter().map(<[u8; 4]>::as_slice)));
}

#[test]
fn no_elements_are_no_message() {
    let mut transaction = transaction();
    transaction.add_elements("s", [] as [(); 0], |(), _| {}).unwrap();
    assert!(transaction.is_empty());
}

#[test]
fn refused_objects_are_named() {
    let mut transaction = transaction();
    transaction.add_table(&[]).unwrap();
    transaction.delete_table().unwrap();
    transaction.add_chain("c", None, "").unwrap();
    transaction.flush_chain("c").unwrap();
    transaction.add_rule("c", &[Expression::Counter], &[]).unwrap();
    transaction.delete_chain("c").unwrap();
    transaction.delete_set("s").unwrap();
    let elements = [[1_u8, 2, 3, 4], [5, 6, 7, 8]];
    transaction
        .add_elements("s", elements, |key, hand_on| {
            let comment = (key[0] == 5).then_some("ns/name");
            hand_on(&Element { key, comment, ..Element::default() });
        })
        .unwrap();
    let names: Vec<_> =
        transaction.batch.messages().map(|m| describe::describe(&m, None).object).collect();
    assert_eq!(
        names,
        [
            "add table ip t",
            "delete table ip t",
            "add chain c in table ip t",
            "delete rules of chain c in table ip t",
            "add rule to chain c in table ip t",
            "delete chain c in table ip t",
            "delete set s in table ip t",
            "add elements to set s in table ip t",
        ]
    );
    let message = transaction.batch.messages().last().unwrap();
    let at = |place| describe::describe(&message, Some(place)).object;
    // Message header 16, netfilter header 4, table 8, set 8, list 4; then one element of 16 bytes, and another.
    assert_eq!(at(40), "add element 01020304 to set s in table ip t");
    assert_eq!(at(52), "add element 01020304 to set s in table ip t");
    assert_eq!(at(56), "add element 05060708 (ns/name) to set s in table ip t");
    assert_eq!(at(4000), "add elements to set s in table ip t");
}

#[test]
fn sets_are_compared_with_what_is_asked_for() {
    let spec = SetSpec {
        name: "s",
        flags: set_flags::MAP,
        key_type: data_type::concatenation(&[data_type::IPV4_ADDRESS, data_type::PORT]),
        key_parts: vec![4, 2],
        data: Some(MapData::Verdict),
        size: None,
        counter: true,
        user_data: vec![1, 2, 3],
    };
    assert_eq!(spec.key_type, (7 << 6) + 13);
    assert_eq!(spec.key_length(), 8);
    let mut transaction = transaction();
    transaction.add_set(&spec).unwrap();
    assert_eq!(operations(&transaction), [9]);
    let message = transaction.batch.messages().next().unwrap();
    let set = Set::read(&message).unwrap();
    assert!(set.is(&spec));
    for other in [
        SetSpec { name: "other", ..spec.clone() },
        SetSpec { flags: 0, ..spec.clone() },
        SetSpec { key_type: 7, ..spec.clone() },
        SetSpec { key_parts: vec![4], ..spec.clone() },
        SetSpec { data: None, ..spec.clone() },
        SetSpec { data: Some(MapData::Value { kind: 7, length: 4 }), ..spec.clone() },
        SetSpec { counter: false, ..spec.clone() },
        SetSpec { user_data: vec![], ..spec.clone() },
    ] {
        assert!(!set.is(&other), "{other:?}");
    }
}

#[test]
fn base_chains_are_read_as_they_were_written() {
    let hooks = [HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting];
    for (point, kind, priority) in [
        (hooks[0], ChainType::Nat, -100),
        (hooks[1], ChainType::Filter, 0),
        (hooks[2], ChainType::Nat, 100),
    ] {
        let hook = Hook { kind, point, priority };
        let mut transaction = transaction();
        transaction.add_chain("c", Some(hook), "what for").unwrap();
        let message = transaction.batch.messages().next().unwrap();
        let chain = Chain::read(&message).unwrap();
        assert_eq!((chain.name.as_str(), chain.hook), ("c", Some(hook)));
    }
}

/// Expressions alone are the bytes that stand in the message of their rule.
#[test]
fn expressions_are_encoded_as_in_a_rule() {
    let expressions = [
        Expression::Meta { key: MetaKey::Mark, to: Register::word(0) },
        Expression::Verdict(Verdict::Goto("chain".into())),
    ];
    let bytes = encoded(&expressions);
    let mut transaction = Transaction::new(Family::V4, "t");
    transaction.add_rule("c", &expressions, &[]).unwrap();
    let message = transaction.batch.messages().next().unwrap();
    let message = format!("{message:?}");
    let wanted = format!("{bytes:?}");
    assert!(message.contains(wanted.trim_matches(['[', ']'])), "{wanted} in {message}");
}
