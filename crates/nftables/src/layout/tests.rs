use super::*;
use crate::chain::{Pick, examples};

/// A base chain of the Go kube-proxy: name, type, hook, priority.
const BASE_CHAINS: [(&str, ChainType, HookPoint, i32); 8] = [
    ("filter-prerouting-pre-dnat", ChainType::Filter, HookPoint::Prerouting, -110),
    ("filter-output-pre-dnat", ChainType::Filter, HookPoint::Output, -110),
    ("filter-input", ChainType::Filter, HookPoint::Input, 0),
    ("filter-forward", ChainType::Filter, HookPoint::Forward, 0),
    ("filter-output", ChainType::Filter, HookPoint::Output, 0),
    ("nat-prerouting", ChainType::Nat, HookPoint::Prerouting, -100),
    ("nat-output", ChainType::Nat, HookPoint::Output, -100),
    ("nat-postrouting", ChainType::Nat, HookPoint::Postrouting, 100),
];

/// Its other chains, but for those of services, which have a slash in their names.
const CHAINS_WITHOUT_HOOK: [&str; 9] = [
    "services",
    "service-endpoints-check",
    "nodeport-endpoints-check",
    "endpoints-check",
    "firewall-check",
    "cluster-ips-check",
    "masquerading",
    "mark-for-masquerade",
    "reject-chain",
];

/// Its sets and maps: name, key, whether it maps to verdicts. None has flags, counters or a size.
const SETS: [(&str, &[Field], bool); 8] = [
    ("cluster-ips", &[Field::Ip], false),
    ("nodeport-ips", &[Field::Ip], false),
    ("hairpin-connections", PAIR, false),
    ("service-ips", ADDRESS, true),
    ("no-endpoint-services", ADDRESS, true),
    ("firewall-ips", ADDRESS, true),
    ("service-nodeports", NODE_PORT, true),
    ("no-endpoint-nodeports", NODE_PORT, true),
];

/// The Go kube-proxy deletes its base chains and makes them again, so those that carry its names are its at once.
#[test]
fn base_chains_are_those_of_the_go_version() {
    let ours: Vec<_> = CHAINS.iter().filter_map(|chain| Some((chain.name, chain.hook?))).collect();
    let theirs =
        BASE_CHAINS.map(|(name, kind, point, priority)| (name, Hook { kind, point, priority }));
    assert_eq!(ours, theirs);
}

/// It would be refused if a chain without hook had one, and with `/` in its name it would be taken for one of a service.
#[test]
fn no_other_chain_is_in_its_way() {
    let fixed =
        CHAINS.iter().filter(|chain| chain.hook.is_none()).map(|chain| chain.name.to_owned());
    let of = |family| Pick::ALL.map(|pick| examples(family, pick));
    let chains = IpFamily::BOTH.into_iter().flat_map(of).flatten();
    let chains = chains.map(|chain| chain.to_string());
    for name in fixed.chain(chains) {
        assert!(!name.contains('/'), "{name}");
        assert!(!BASE_CHAINS.iter().any(|(base, ..)| *base == name), "{name}");
    }
    // What it flushes it may have; all of ours that has such a name is without a hook, as its is.
    assert!(CHAINS_WITHOUT_HOOK.contains(&REJECT));
}

/// It makes its sets and maps again where they are: the kernel takes that only if they are the same. It deletes `nodeport-ips` and
/// what begins with `affinity-` while chains that it does not know may refer to them.
#[test]
fn no_set_is_in_its_way() {
    for family in IpFamily::BOTH {
        for id in SetId::ALL {
            let spec = set_spec(id, family);
            assert!(!spec.name.starts_with("affinity-"), "{}", spec.name);
            assert_ne!(spec.name, "nodeport-ips");
            let Some((_, key, maps)) = SETS.iter().find(|(name, ..)| *name == spec.name) else {
                continue;
            };
            let types: Vec<_> = key.iter().map(|field| data_type_of(*field, family)).collect();
            assert_eq!(spec.key_type, data_type::concatenation(&types), "{}", spec.name);
            assert_eq!(spec.data, maps.then_some(MapData::Verdict), "{}", spec.name);
            let flags = if *maps { set_flags::MAP } else { 0 };
            assert_eq!(
                (spec.flags, spec.size, spec.counter),
                (flags, None, false),
                "{}",
                spec.name
            );
        }
    }
}

/// The kernel takes 256 bytes.
#[test]
fn what_sets_say_to_nft_fits() {
    for family in IpFamily::BOTH {
        for id in SetId::ALL {
            let length = set_spec(id, family).user_data.len();
            assert!(length <= 256, "{}: {length}", set_name(id));
        }
    }
}
