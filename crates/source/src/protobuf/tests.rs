use proptest::prelude::*;

use super::fault::Cause;
use super::*;
use crate::slim::{EndpointSlice, Meta, Node, Service, ServiceSpec};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn read<'a, T: Message<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    let mut message = T::default();
    message.merge(bytes).map(|()| message)
}

/// The fields of a message, or what is wrong with it.
fn fields(text: &str) -> Result<String, Cause> {
    let bytes = hex(text);
    let mut fields = Fields::new(&bytes);
    let mut found = Vec::new();
    while let Some((number, value)) = fields.next()? {
        found.push(format!("{number}={value:?}"));
    }
    Ok(found.join(" "))
}

#[test]
fn values_of_all_wire_types() {
    let all = "08 96 01  12 02 68 69  1d 00 00 80 3f  21 00 00 00 00 00 00 f0 3f  2b 08 01 2c";
    let expected = "1=Varint(150) 2=Bytes([104, 105]) 3=Fixed 4=Fixed 5=Group";
    assert_eq!(fields(all).unwrap(), expected);
    assert_eq!(fields("").unwrap(), "");
    // The largest number of a field; a length may take more bytes than it needs.
    assert_eq!(
        fields("f8 ff ff ff 0f 01  12 81 80 00 78").unwrap(),
        "536870911=Varint(1) 2=Bytes([120])"
    );
}

#[test]
fn numbers_are_64_bits_and_no_more() {
    let value = |text: &str| fields(&format!("08 {text}"));
    assert_eq!(value("ff ff ff ff ff ff ff ff ff 01").unwrap(), format!("1=Varint({})", u64::MAX));
    assert_eq!(value("80 80 80 80 80 80 80 80 80 00").unwrap(), "1=Varint(0)");
    assert_eq!(value("ff ff ff ff ff ff ff ff ff 02"), Err(Cause::Overlong));
    assert_eq!(value("80 80 80 80 80 80 80 80 80 80 00"), Err(Cause::Overlong));
    assert_eq!(value("ff"), Err(Cause::Truncated));
    assert_eq!(value(""), Err(Cause::Truncated));
}

#[test]
fn what_is_cut_off_or_unknown_is_an_error() {
    for cut in ["12 03 68 69", "12 ff ff ff ff ff ff ff ff ff 01 68", "12", "1d 00 00 80", "21 00"]
    {
        assert_eq!(fields(cut), Err(Cause::Truncated), "{cut}");
    }
    assert_eq!(fields("00 01"), Err(Cause::Number(0)));
    assert_eq!(fields("80 80 80 80 10 01"), Err(Cause::Number(1 << 29)));
    assert_eq!(fields("0e"), Err(Cause::WireType(6)));
    assert_eq!(fields("0f"), Err(Cause::WireType(7)));
}

#[test]
fn groups_are_skipped_however_deep_within_reason() {
    let nested = |depth: usize| format!("{} {} 10 07", "0b ".repeat(depth), "0c ".repeat(depth));
    assert_eq!(fields(&nested(1)).unwrap(), "1=Group 2=Varint(7)");
    assert_eq!(fields(&nested(64)).unwrap(), "1=Group 2=Varint(7)");
    assert_eq!(fields(&nested(65)), Err(Cause::Group));
    assert_eq!(fields(&"0b".repeat(1_000_000)), Err(Cause::Group), "no stack is used");
    assert_eq!(fields("0b 14"), Err(Cause::Group), "the end of another");
    assert_eq!(fields("0c"), Err(Cause::Group), "an end only");
    assert_eq!(fields("0b 08"), Err(Cause::Truncated));
    let content = "0b 10 96 01 1a 02 68 69 25 00 00 00 00 29 00 00 00 00 00 00 00 00 0c 10 07";
    assert_eq!(fields(content).unwrap(), "1=Group 2=Varint(7)");
}

#[test]
fn the_last_value_counts_messages_merge_and_lists_grow() {
    // Names "a" and "b"; the namespace between them stays.
    let bytes = hex("0a 0161  1a 016e  0a 0162");
    let meta: Meta<'_> = read(&bytes).unwrap();
    assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("b"), Some("n")));
    // Two specs with an external IP each, and a type in the first only.
    let bytes = hex("12 06 2a 0131 22 0174  12 03 2a 0132");
    let spec = read::<Service<'_>>(&bytes).unwrap().spec.unwrap();
    let ips: Vec<_> = spec.external_ips.iter().map(|ip| ip.to_string()).collect();
    assert_eq!((ips.join(" "), spec.type_.as_deref()), ("1 2".to_owned(), Some("t")));
    // Two labels of the same key.
    let headless = "service.kubernetes.io/headless";
    let label =
        |value: &str| [&[0x0a, 30][..], headless.as_bytes(), &[0x12, 1], value.as_bytes()].concat();
    let entry = |value: &str| [&[11 << 3 | 2, 35][..], &label(value)].concat();
    let bytes = [entry("x"), entry("y")].concat();
    let labels = read::<Meta<'_>>(&bytes).unwrap().labels.unwrap();
    assert_eq!(labels.headless.as_deref(), Some("y"));
}

#[test]
fn absent_is_not_false_and_negative_numbers_have_ten_bytes() {
    let bytes = hex("12 04 12 02 10 00  12 02 12 00  12 00");
    let slice: EndpointSlice<'_> = read(&bytes).unwrap();
    let conditions: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.conditions).collect();
    assert_eq!((conditions[0].unwrap().ready, conditions[0].unwrap().serving), (None, Some(false)));
    assert!(conditions[1].unwrap().serving.is_none());
    assert!(conditions[2].is_none());
    let bytes = hex("60 ff ff ff ff ff ff ff ff ff 01");
    let spec: ServiceSpec<'_> = read(&bytes).unwrap();
    assert_eq!(spec.health_check_node_port, Some(Int(-1)));
}

#[test]
fn strings_borrow() {
    let bytes = hex("0a 0161");
    let meta: Meta<'_> = read(&bytes).unwrap();
    assert!(matches!(meta.name.unwrap().0, std::borrow::Cow::Borrowed("a")));
}

#[test]
fn faults_name_the_field() {
    let path = |text: &str| {
        let bytes = hex(text);
        read::<Service<'_>>(&bytes).unwrap_err().to_string()
    };
    let number =
        "spec.ports[1].port: invalid type: length-delimited bytes, expected a whole number";
    assert_eq!(path("12 09 0a 00 0a 05 1a 03 61 62 63"), number);
    assert_eq!(
        path("12 02 28 07"),
        "spec.externalIPs[0]: invalid type: a varint, expected a string"
    );
    assert_eq!(path("10 07"), "spec: invalid type: a varint, expected an object");
    assert_eq!(path("12 03 1a 01 ff"), "spec.clusterIP: not UTF-8");
    assert_eq!(path("0a 02 08 01"), "metadata.name: invalid type: a varint, expected a string");
    assert_eq!(path("0a 02 58 01"), "metadata.labels: invalid type: a varint, expected an object");
    assert_eq!(path("12 03 1a 05 61"), "spec: cut off: a value is longer than what is left");
    assert_eq!(path("0a"), "cut off: a value is longer than what is left");
}

#[test]
fn times_are_written_as_in_json() {
    let time = |text: &str| {
        let bytes = hex(text);
        let node: Node<'_> = read(&bytes).unwrap();
        node.metadata.unwrap().deletion_timestamp.map(|time| time.to_string())
    };
    assert_eq!(
        time("0a 0a 4a 08 08 81 f2 d6 ca 06 10 00"),
        Some("2026-01-01T00:00:01Z".to_owned())
    );
    assert_eq!(time("0a 02 4a 00"), Some("1970-01-01T00:00:00Z".to_owned()));
    let far = "0a 0c 4a 0a 08 ff ff ff ff ff ff ff ff 7f";
    assert_eq!(time(far), Some(i64::MAX.to_string()), "not a time, but there");
    assert_eq!(time("0a 00"), None);
}

#[test]
fn envelopes_are_opened_or_refused() {
    let open = |text: &str| {
        let bytes = hex(text);
        Envelope::open(&bytes).map(|envelope| (envelope.kind().to_owned(), envelope.raw().to_vec()))
    };
    let good = "6b387300 0a 07 0a 00 12 03 466f6f 12 02 0800 1a 00 22 00";
    assert_eq!(open(good).unwrap(), ("Foo".to_owned(), vec![8, 0]));
    assert_eq!(open("6b387300").unwrap(), (String::new(), Vec::new()));
    for bad in ["", "6b3873", "6b387301", "7b7d"] {
        assert_eq!(open(bad).unwrap_err().cause(), Cause::Magic, "{bad}");
    }
    for other in ["6b387300 1a 01 78", "6b387300 22 01 78"] {
        assert_eq!(open(other).unwrap_err().cause(), Cause::Encoding, "{other}");
    }
    assert_eq!(open("6b387300 12 05 08").unwrap_err().cause(), Cause::Truncated);
}

/// An encoded field with a number that no message has, of any wire type.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u8>().prop_map(|byte| vec![0xc0, 0x3e, byte & 0x7f]),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| {
            let length = u8::try_from(bytes.len()).unwrap();
            [&[0xc2, 0x3e, length][..], &bytes].concat()
        }),
        Just(vec![0xc5, 0x3e, 1, 2, 3, 4]),
        Just(vec![0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8]),
        Just(vec![0xc3, 0x3e, 0x08, 0x05, 0xc4, 0x3e]),
    ]
}

proptest! {
    /// Fields of the future change nothing, wherever they stand.
    #[test]
    fn unknown_fields_are_skipped(before in unknown_field(), after in unknown_field()) {
        let known = hex("0a 06 0a 0161 1a 016e  12 04 22 02 7878");
        let bytes = [before, known.clone(), after].concat();
        let with = read::<Service<'_>>(&bytes).unwrap();
        let without = read::<Service<'_>>(&known).unwrap();
        prop_assert_eq!(format!("{with:?}"), format!("{without:?}"));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read::<Service<'_>>(&bytes);
        let _ = read::<EndpointSlice<'_>>(&bytes);
        let _ = read::<Node<'_>>(&bytes);
        let _ = nameplate(&bytes);
        let _ = Envelope::open(&bytes);
        let _ = ListParts::read(&bytes);
        let _ = ListParts::items(&bytes).count();
    }
}
