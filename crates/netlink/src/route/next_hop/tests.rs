use proptest::prelude::*;

use super::*;
use crate::message::Messages;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(align(bytes.len()), 0);
    bytes
}

fn hop(attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HOP_HEADER_LEN + attributes.len()).unwrap();
    [&length.to_ne_bytes()[..], &[0, 0], &7_u32.to_ne_bytes(), attributes].concat()
}

fn route(family: u8, attributes: &[u8]) -> Result<Vec<IpAddr>, Malformed> {
    let mut payload = vec![0; HEADER_LEN];
    payload[0] = family;
    payload.extend(attributes);
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = [&length.to_ne_bytes()[..], &24_u16.to_ne_bytes(), &[0; 10]].concat();
    bytes.extend(payload);
    let mut hops = BTreeSet::new();
    for message in Messages::new(&bytes) {
        read(&message?, &mut hops)?;
    }
    Ok(hops.into_iter().collect())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn each_kind_of_next_hop_is_read() {
    let v6 = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(route(2, &attribute(5, &[192, 0, 2, 1])), Ok(vec![ip("192.0.2.1")]));
    assert_eq!(route(10, &attribute(5, &v6)), Ok(vec![ip("2001:db8::1")]));
    let via = [&10_u16.to_ne_bytes()[..], &v6].concat();
    assert_eq!(route(2, &attribute(18, &via)), Ok(vec![ip("2001:db8::1")]));
    let hops = [hop(&attribute(5, &[192, 0, 2, 1])), hop(&attribute(18, &via)), hop(&[])].concat();
    assert_eq!(route(2, &attribute(9, &hops)), Ok(vec![ip("192.0.2.1"), ip("2001:db8::1")]));
}

#[test]
fn other_families_and_routes_on_a_link_have_none() {
    assert_eq!(route(28, &attribute(5, &[1])), Ok(vec![]));
    assert_eq!(route(2, &attribute(1, &[10, 0, 0, 0])), Ok(vec![]));
    assert_eq!(route(2, &attribute(18, &28_u16.to_ne_bytes())), Ok(vec![]));
}

#[test]
fn what_is_cut_short_is_said() {
    assert!(route(2, &attribute(5, &[192, 0])).is_err());
    assert!(route(2, &attribute(18, &[2])).is_err());
    assert!(route(2, &attribute(9, &[200, 0, 0, 0, 0, 0, 0, 0])).is_err());
    assert!(route(2, &attribute(9, &[0, 0, 0, 0, 0, 0, 0, 0])).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(family in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = route(family, &bytes);
        let _ = route(2, &attribute(9, &bytes));
    }
}
