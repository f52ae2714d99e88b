use kube_proxy_netlink::route::AddressFlags;

use super::*;

const DEVICE: u32 = 7;

fn sorted(on: &[(&str, u8, Scope)]) -> Addresses {
    let all: Vec<Address> = on
        .iter()
        .map(|(ip, prefix_len, scope)| Address {
            address: ip.parse().unwrap(),
            prefix_len: *prefix_len,
            interface: DEVICE,
            scope: *scope,
            flags: AddressFlags::default(),
            label: None,
        })
        .collect();
    Addresses::sort(&all, Some(DEVICE), IpFamily::V6)
}

/// The address that the kernel gives the interface belongs to nothing; one of a Service is ours, also if it is of the link.
#[test]
fn addresses_of_single_hosts_are_ours_whatever_their_scope() {
    let found = sorted(&[
        ("fe80::1234", 64, Scope::Link),
        ("fe80::7", 128, Scope::Link),
        ("fd00::7", 128, Scope::Global),
        ("fd00::8", 64, Scope::Global),
    ]);
    let ours: BTreeSet<String> = found.device.iter().map(ToString::to_string).collect();
    assert_eq!(ours, ["fd00::7", "fe80::7"].map(str::to_owned).into());
    assert_eq!(found.foreign, 1);
}
