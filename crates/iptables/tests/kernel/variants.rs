//! Which variant is chosen, the lock, and the sysctl.

use std::fs::{self, File};

use futures::executor::block_on;
use kube_proxy_core::{IpFamily, NodePortAddresses, ProxyBackend, Scope, Snapshot, SyncError};
use kube_proxy_iptables::{InUse, IptablesBackend, Variant, remove};

use crate::namespace::run;
use crate::syncs::{config, saved};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("without_any_rules_nft_is_chosen", without_any_rules),
    ("the_hint_of_the_kubelet_decides", hint_decides),
    ("the_canary_of_the_kubelet_decides", canary_decides),
    ("without_a_hint_the_variant_with_more_rules_is_chosen", more_rules_decide),
    ("cleanup_finds_rules_of_the_other_variant", cleanup_of_other_variant),
    ("a_held_lock_is_reported_as_busy", held_lock),
    ("route_localnet_is_set_only_when_needed", route_localnet),
    ("odd_interface_names_are_refused", odd_interface_names),
];

fn sync_automatically(family: IpFamily) {
    let mut backend = IptablesBackend::new(config(Variant::Auto, family)).unwrap();
    block_on(backend.sync(&Snapshot::new(family), Scope::Full)).unwrap();
}

fn holds_rules(variant: Variant, family: IpFamily) -> bool {
    saved(variant, family).contains_key("nat KUBE-SERVICES")
}

fn without_any_rules() {
    sync_automatically(IpFamily::V4);
    assert!(holds_rules(Variant::Nft, IpFamily::V4));
    // Looking has not brought the legacy tables into being.
    let tables = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    assert_eq!(tables, "");
}

fn hint_decides() {
    run("iptables-nft", &["-A", "INPUT", "-j", "ACCEPT"]);
    run("iptables-legacy", &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"]);
    for family in IpFamily::BOTH {
        sync_automatically(family);
        assert!(holds_rules(Variant::Legacy, family));
    }
}

fn canary_decides() {
    run("iptables-legacy", &["-A", "INPUT", "-j", "ACCEPT"]);
    run("ip6tables-nft", &["-t", "mangle", "-N", "KUBE-KUBELET-CANARY"]);
    sync_automatically(IpFamily::V4);
    assert!(holds_rules(Variant::Nft, IpFamily::V4));
}

fn more_rules_decide() {
    run("iptables-nft", &["-A", "INPUT", "-j", "ACCEPT"]);
    run("iptables-legacy", &["-A", "INPUT", "-j", "ACCEPT"]);
    run("iptables-legacy", &["-A", "INPUT", "-j", "ACCEPT"]);
    sync_automatically(IpFamily::V4);
    assert!(holds_rules(Variant::Legacy, IpFamily::V4));
}

fn cleanup_of_other_variant() {
    let family = IpFamily::V4;
    let mut legacy = IptablesBackend::new(config(Variant::Legacy, family)).unwrap();
    block_on(legacy.sync(&Snapshot::new(family), Scope::Full)).unwrap();
    let mut nft = IptablesBackend::new(config(Variant::Nft, family)).unwrap();
    block_on(nft.sync(&Snapshot::new(family), Scope::Full)).unwrap();
    remove(family, InUse::default()).unwrap();
    assert!(!holds_rules(Variant::Legacy, family));
    assert!(!holds_rules(Variant::Nft, family));
}

fn held_lock() {
    let family = IpFamily::V4;
    let mut backend = IptablesBackend::new(config(Variant::Legacy, family)).unwrap();
    let lock = File::create("/run/xtables.lock").unwrap();
    lock.lock().unwrap();
    let error = block_on(backend.sync(&Snapshot::new(family), Scope::Full)).unwrap_err();
    assert!(matches!(error, SyncError::Busy(_)), "{error}");
    // A start meanwhile is one all the same.
    let mut backend = IptablesBackend::new(config(Variant::Legacy, family)).unwrap();
    let error = block_on(backend.sync(&Snapshot::new(family), Scope::Full)).unwrap_err();
    assert!(matches!(error, SyncError::Busy(_)), "{error}");
    drop(lock);
    block_on(backend.sync(&Snapshot::new(family), Scope::Full)).unwrap();
}

fn route_localnet() {
    let setting = || fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap();
    let mut config = config(Variant::Nft, IpFamily::V4);
    config.node_ports = NodePortAddresses::Within(vec!["192.0.2.0/24".parse().unwrap()]);
    IptablesBackend::new(config.clone()).unwrap();
    assert_eq!(setting(), "0\n");
    config.node_ports = NodePortAddresses::All;
    config.localhost_node_ports = false;
    IptablesBackend::new(config.clone()).unwrap();
    assert_eq!(setting(), "0\n");
    let mut backend = IptablesBackend::new(config.clone()).unwrap();
    block_on(backend.sync(&Snapshot::new(IpFamily::V4), Scope::Full)).unwrap();
    assert_eq!(setting(), "0\n");
    config.localhost_node_ports = true;
    let mut backend = IptablesBackend::new(config).unwrap();
    // Nothing guards loopback yet.
    assert_eq!(setting(), "0\n");
    block_on(backend.sync(&Snapshot::new(IpFamily::V4), Scope::Full)).unwrap();
    assert_eq!(setting(), "1\n");
    assert_eq!(saved(Variant::Nft, IpFamily::V4)["filter KUBE-FIREWALL"].len(), 1);
}

fn odd_interface_names() {
    let mut config = config(Variant::Nft, IpFamily::V4);
    config.local_traffic =
        kube_proxy_core::LocalTrafficDetector::Bridge("cbr0 -j ACCEPT".to_owned());
    let error = IptablesBackend::new(config).err().unwrap();
    assert!(error.to_string().contains("cbr0 -j ACCEPT"), "{error}");
}
