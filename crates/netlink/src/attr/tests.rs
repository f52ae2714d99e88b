use proptest::prelude::*;

use super::*;

fn collect(bytes: &[u8]) -> Vec<Result<Attribute<'_>, Malformed>> {
    Attributes::new(bytes).collect()
}

#[test]
fn flag_bits_are_not_part_of_the_kind() {
    let nested = [4_u16.to_ne_bytes(), (NESTED | 7).to_ne_bytes()].concat();
    assert_eq!(collect(&nested), [Ok(Attribute { kind: 7, value: &[] })]);
    let ordered = [4_u16.to_ne_bytes(), (NET_BYTE_ORDER | 8).to_ne_bytes()].concat();
    assert_eq!(collect(&ordered), [Ok(Attribute { kind: 8, value: &[] })]);
}

#[test]
fn last_attribute_needs_no_padding() {
    let bytes = [&5_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), &[9]].concat();
    assert_eq!(collect(&bytes), [Ok(Attribute { kind: 1, value: &[9] })]);
}

#[test]
fn broken_frames_are_errors_and_the_end() {
    let frame = |length, available| Err(Malformed::AttributeFrame { length, available });
    assert_eq!(collect(&[1, 2, 3]), [frame(4, 3)]);
    let too_short = [3_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), [0; 2]].concat();
    assert_eq!(collect(&too_short), [frame(3, 6)]);
    let zero = [0; 8];
    assert_eq!(collect(&zero), [frame(0, 8)]);
    let too_long = [9_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), [0; 2], [0; 2]].concat();
    assert_eq!(collect(&too_long), [frame(9, 8)]);
}

#[test]
fn values_of_wrong_length_are_errors() {
    let attribute = Attribute { kind: 3, value: &[1, 2, 3] };
    let wrong = |expected| Malformed::AttributeLength { kind: 3, length: 3, expected };
    assert_eq!(attribute.u8(), Err(wrong(1)));
    assert_eq!(attribute.u16_be(), Err(wrong(2)));
    assert_eq!(attribute.u32_be(), Err(wrong(4)));
    assert_eq!(attribute.u32(), Err(wrong(4)));
    assert_eq!(attribute.u64_be(), Err(wrong(8)));
    assert_eq!(attribute.ipv4(), Err(wrong(4)));
    assert_eq!(attribute.ipv6(), Err(wrong(16)));
}

#[test]
fn text_ends_at_the_first_nul() {
    let text = |value| Attribute { kind: 4, value }.text();
    assert_eq!(text(b"lo\0"), "lo");
    assert_eq!(text(b"lo"), "lo");
    assert_eq!(text(b"lo\0\xff"), "lo");
    assert_eq!(text(b""), "");
    assert_eq!(text(b"q\xff\0"), "q\u{fffd}");
}

proptest! {
    #[test]
    fn never_panics_and_stays_inside(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut total = 0;
        for attribute in Attributes::new(&bytes).map_while(Result::ok) {
            total += HEADER_LEN + attribute.value.len();
            let _ = (attribute.u8(), attribute.u16_be(), attribute.u32_be(), attribute.u32());
            let _ = (attribute.u64_be(), attribute.ipv4(), attribute.ipv6(), attribute.text());
            let _ = attribute.nested().find(1);
        }
        prop_assert!(total <= bytes.len());
    }
}
