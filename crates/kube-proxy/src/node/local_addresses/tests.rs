use kube_proxy_netlink::route::{Address, AddressFlags, Scope};

use super::{is_usable, list};

fn address(ip: &str, scope: Scope, flags: AddressFlags) -> Address {
    let address = ip.parse().unwrap();
    Address { address, prefix_len: 24, interface: 2, scope, flags, label: None }
}

#[test]
fn what_cannot_be_listened_on_is_left_out() {
    let none = AddressFlags::default();
    assert!(is_usable(&address("10.0.0.1", Scope::Global, none)));
    assert!(is_usable(&address("127.0.0.1", Scope::Host, none)));
    assert!(is_usable(&address("169.254.1.1", Scope::Link, none)));
    assert!(!is_usable(&address("fe80::1", Scope::Link, none)));
    assert!(!is_usable(&address("fd00::1", Scope::Global, AddressFlags::TENTATIVE)));
    assert!(!is_usable(&address("fd00::1", Scope::Global, AddressFlags::DUPLICATE)));
}

#[test]
fn the_addresses_of_this_host_are_sorted() {
    let addresses = list().unwrap();
    assert!(addresses.is_sorted(), "{addresses:?}");
}
