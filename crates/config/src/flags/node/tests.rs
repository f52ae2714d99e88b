use super::*;
use crate::flags::parse;
use crate::flags::table::Group as _;

fn flags(words: &[&str]) -> SafetyFlags {
    let words = ["kube-proxy"].iter().chain(words).map(|word| (*word).into());
    parse(words).unwrap().safety
}

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(flags(&[]).over(&flags(&[])).trust(), Trust::default());
}

#[test]
fn flags_win_over_the_environment() {
    let environment = flags(&["--allow-special-endpoints", "--external-ip-cidrs=10.0.0.0/8"]);
    let trust = flags(&[]).over(&environment).trust();
    assert!(trust.special_endpoints);
    assert_eq!(trust.external_ips, Some(nets(&["10.0.0.0/8"])));
    let given = flags(&[
        "--allow-special-endpoints=false",
        "--external-ip-cidrs=192.0.2.0/24,2001:db8::/32",
        "--external-ip-cidrs=198.51.100.7/32",
    ]);
    let trust = given.over(&environment).trust();
    assert!(!trust.special_endpoints);
    assert_eq!(
        trust.external_ips,
        Some(nets(&["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"]))
    );
}

#[test]
fn an_empty_list_allows_no_external_ip() {
    assert_eq!(
        flags(&["--external-ip-cidrs="]).over(&flags(&[])).trust().external_ips,
        Some(nets(&[]))
    );
}

#[test]
fn what_is_no_network_is_refused() {
    let error = parse(["kube-proxy", "--external-ip-cidrs=10.0.0.1"].map(Into::into)).unwrap_err();
    assert!(error.to_string().contains("10.0.0.1"), "{error}");
}
