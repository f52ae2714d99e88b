use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const SPECIAL: [&str; 10] = [
    "0.0.0.0",
    "127.0.0.1",
    "127.255.0.9",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
];
const ORDINARY: [&str; 4] = ["10.1.2.3", "192.0.2.1", "fd00::1", "2001:db8::1"];

#[test]
fn special_endpoints_are_refused_unless_allowed() {
    let allowing = Trust { special_endpoints: true, ..Trust::default() };
    for address in SPECIAL {
        let reason = Trust::default().endpoint(&ip(address)).unwrap();
        assert!(reason.ends_with("; ignored"), "{address}: {reason}");
        assert_eq!(allowing.endpoint(&ip(address)), None, "{address}");
    }
    for address in ORDINARY {
        assert_eq!(Trust::default().endpoint(&ip(address)), None, "{address}");
    }
}

#[test]
fn external_ips_are_of_the_networks_that_are_allowed() {
    for address in SPECIAL {
        assert!(Trust::default().external_ip(&ip(address)).is_some(), "{address}");
    }
    for address in ORDINARY {
        assert_eq!(Trust::default().external_ip(&ip(address)), None, "{address}");
    }
    let nets = ["192.0.2.0/24", "2001:db8::/64"].map(|net| net.parse().unwrap());
    let some = Trust { external_ips: Some(nets.to_vec()), ..Trust::default() };
    assert_eq!(some.external_ip(&ip("192.0.2.1")), None);
    assert_eq!(some.external_ip(&ip("2001:db8::1")), None);
    for other in ["192.0.3.1", "10.1.2.3", "2001:db8:1::1", "127.0.0.1", "::1"] {
        assert!(some.external_ip(&ip(other)).is_some(), "{other}");
    }
    let none = Trust { external_ips: Some(Vec::new()), ..Trust::default() };
    assert!(ORDINARY.iter().all(|address| none.external_ip(&ip(address)).is_some()));
}

#[test]
fn assigned_addresses_are_those_of_hosts() {
    for address in ["255.255.255.255", "0.0.0.0", "127.0.0.1", "224.0.0.1", "::", "::1", "ff02::1"]
    {
        assert!(Trust::assigned(&ip(address)).is_some(), "{address}");
    }
    for address in ["169.254.1.1", "203.0.113.1", "fe80::1"] {
        assert_eq!(Trust::assigned(&ip(address)), None, "{address}");
    }
}
