use proptest::prelude::*;

use super::{parse_cidr, parse_ip, parse_ip_port, with_port};

#[test]
fn leading_zeros_are_decimal() {
    assert_eq!(parse_ip("010.000.0.1").unwrap().to_string(), "10.0.0.1");
    assert_eq!(parse_cidr("010.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
}

#[test]
fn refuses_what_is_no_address() {
    for text in
        ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.x", "1..2.3", "fe80::1%eth0", " 1.2.3.4"]
    {
        assert_eq!(parse_ip(text), None, "{text:?}");
    }
    for text in ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "/8", "a/8"] {
        assert_eq!(parse_cidr(text), None, "{text:?}");
    }
}

#[test]
fn reads_address_and_port() {
    for (text, expected) in [
        ("0.0.0.0:10256", Ok("0.0.0.0:10256")),
        ("[::]:1", Ok("[::]:1")),
        ("[fd00::1]:65535", Ok("[fd00::1]:65535")),
        ("1.2.3.4", Err("must be IP:port")),
        ("1.2.3.4:0", Err("must be a port from 1 to 65535")),
        ("1.2.3.4:65536", Err("must be a port from 1 to 65535")),
        ("1.2.3.4:", Err("must be a port from 1 to 65535")),
        ("host:80", Err("must be a valid IP")),
        (":80", Err("must be a valid IP")),
        ("[1.2.3.4]:80", Err("must be IP:port, an IPv6 address in brackets")),
        ("fd00::1:80", Err("must be IP:port, an IPv6 address in brackets")),
    ] {
        let found = parse_ip_port(text).map(|address| address.to_string());
        assert_eq!(found.as_deref().map_err(|error| *error), expected, "{text:?}");
    }
}

#[test]
fn adds_a_port_to_bare_addresses_only() {
    assert_eq!(with_port("1.2.3.4", 80), "1.2.3.4:80");
    assert_eq!(with_port("::", 80), "[::]:80");
    assert_eq!(with_port("1.2.3.4:5", 80), "1.2.3.4:5");
    assert_eq!(with_port("host", 80), "host");
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC*") {
        let _ = (parse_ip(&text), parse_cidr(&text), parse_ip_port(&text), with_port(&text, 1));
    }
}
