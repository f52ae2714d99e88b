//! What full and partial syncs run, and what happens when they fail.

use futures::executor::block_on;
use kube_proxy_core::{Changes, IpFamily, ProxyBackend, Scope, Snapshot};

use super::build::{backend, config, fresh, full, partial};
use super::model::Model;
use super::samples::{Sample, service, snapshot};
use crate::cleanup::cleanup;
use crate::fixed::ANTI_MARTIAN;
use crate::layout::{CANARY, is_dynamic};

fn samples(count: u8) -> Vec<Sample> {
    (1..=count)
        .map(|n| {
            service(&format!("s{n}"), &format!("10.96.0.{n}")).remote(&format!("10.1.0.{n}:80"))
        })
        .collect()
}

fn of(samples: &[Sample]) -> Snapshot {
    snapshot(IpFamily::V4, samples)
}

#[test]
fn a_second_full_sync_changes_nothing() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let snapshot = of(&samples(5));
    full(&mut backend, &snapshot);
    let before = model.dump();
    full(&mut backend, &snapshot);
    assert_eq!(model.dump(), before);
}

#[test]
fn nothing_runs_when_nothing_changed() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let snapshot = of(&samples(5));
    full(&mut backend, &snapshot);
    let (inputs, saves) = (model.inputs().len(), model.saves());
    partial(&mut backend, &snapshot, &snapshot);
    // Also for a service that is said to have changed but did not.
    let mut changes = Changes::default();
    changes.services.extend(snapshot.services.keys().cloned());
    let report = block_on(backend.sync(&snapshot, Scope::Partial(&changes))).unwrap();
    assert_eq!((model.inputs().len(), model.saves()), (inputs, saves));
    assert!(report.counts.iter().all(|count| count.written == 0));
}

#[test]
fn one_changed_endpoint_rewrites_one_chain() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let mut samples = samples(50);
    let before = of(&samples);
    full(&mut backend, &before);
    samples[7] = samples[7].clone().remote("10.1.7.7:80");
    let saves = model.saves();
    let report = partial(&mut backend, &before, &of(&samples));
    let input = model.inputs().pop().unwrap();
    assert_eq!(input.lines().filter(|l| l.starts_with(':')).count(), 1, "{input}");
    assert_eq!(input.matches("-A KUBE-SVC-").count(), 3, "{input}");
    assert_eq!(report.counts[1].written, 3);
    assert_eq!(model.saves(), saves);
}

#[test]
fn a_weight_rewrites_one_chain() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let mut samples = samples(50);
    samples[7] = samples[7].clone().remote("10.1.7.7:80");
    let mut before = of(&samples);
    full(&mut backend, &before);
    for weight in [3, 0] {
        samples[7] = samples[7].clone().weight(weight);
        let after = of(&samples);
        partial(&mut backend, &before, &after);
        before = after;
        let input = model.inputs().pop().unwrap();
        assert_eq!(input.lines().filter(|l| l.starts_with(':')).count(), 1, "{input}");
        let rules = 2 + usize::from(weight > 0);
        assert_eq!(input.matches("-A KUBE-SVC-").count(), rules, "{input}");
    }
    assert_eq!(model.dump(), fresh(config(IpFamily::V4), &before));
}

#[test]
fn a_report_counts_what_is_there() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let before = of(&samples(40));
    full(&mut backend, &before);
    let report = partial(&mut backend, &before, &of(&samples(17)));
    for count in &report.counts {
        let dump = model.dump();
        let table = dump.split('*').find(|t| t.starts_with(count.kind)).unwrap();
        let ours = table.lines().filter(|l| l.starts_with("-A KUBE-"));
        assert_eq!(ours.count(), count.total, "{}", count.kind);
    }
}

#[test]
fn a_failed_sync_is_followed_by_a_full_one() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let before = of(&samples(3));
    full(&mut backend, &before);
    // Another program deletes a chain that the partial sync needs.
    model
        .apply(
            "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SEP-HAIRPIN - [0:0]\n:KUBE-POSTROUTING - [0:0]\n",
        )
        .unwrap();
    let mut refused = samples(3);
    refused[0] = refused[0].clone().affinity(1 << 40);
    let after = of(&refused);
    let changes = super::samples::changes(&before, &after);
    let error = block_on(backend.sync(&after, Scope::Partial(&changes))).unwrap_err();
    assert!(error.to_string().contains("--seconds"), "{error}");
    // Asked for a partial sync again, it does a full one.
    let saves = model.saves();
    let scope = Changes::default();
    block_on(backend.sync(&after, Scope::Partial(&scope))).unwrap();
    assert!(model.saves() > saves);
}

#[test]
fn a_refused_service_does_not_stop_the_others() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let mut bad = samples(6);
    bad[1] = bad[1].clone().affinity(1 << 40);
    bad[4] = bad[4].clone().affinity(1 << 40);
    let report = full(&mut backend, &of(&bad));
    let good: Vec<_> = [0, 2, 3, 5].iter().map(|i| bad[*i].clone()).collect();
    assert_eq!(model.dump(), fresh(config(IpFamily::V4), &of(&good)));
    assert_eq!(report.refused, 2);
    // Once it is acceptable it comes back.
    let before = of(&bad);
    bad[1] = bad[1].clone().affinity(60);
    let report = partial(&mut backend, &before, &of(&bad));
    assert_eq!(report.refused, 1);
    bad.remove(4);
    assert_eq!(model.dump(), fresh(config(IpFamily::V4), &of(&bad)));
}

#[test]
fn growing_large_does_not_rewrite_everything() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let mut samples = samples(4);
    let mut big = service("big", "10.96.1.1");
    for n in 0..1000 {
        big = big.remote(&format!("10.2.{}.{}:80", n / 250, n % 250));
    }
    let before = of(&samples);
    full(&mut backend, &before);
    samples.push(big);
    let after = of(&samples);
    assert!(after.is_large() && !before.is_large());
    partial(&mut backend, &before, &after);
    let input = model.inputs().pop().unwrap();
    assert!(!input.contains("-A KUBE-SVC-") || !input.contains("10.1.0.1"), "{input}");
    full(&mut backend, &after);
    assert_eq!(model.dump(), fresh(config(IpFamily::V4), &after));
}

/// As a Go kube-proxy 1.36 leaves it, for one service that is still there and one that is not.
const GO_RULES: &str = r#"*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp -j MINE
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SVC-BBBBBBBBBBBBBBBB - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -j DNAT --to-destination 10.1.0.1:80
-A KUBE-SVC-BBBBBBBBBBBBBBBB -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A MINE -d 192.0.2.1/32 -j KUBE-SVC-BBBBBBBBBBBBBBBB
COMMIT
"#;

#[test]
fn rules_of_another_kube_proxy_are_taken_over() {
    let model = Model::default();
    model.apply(GO_RULES).unwrap();
    let snapshot = of(&samples(3));
    full(&mut backend(config(IpFamily::V4), &model), &snapshot);
    let dump = model.dump();
    assert!(!dump.contains("AAAAAAAAAAAAAAAA"), "{dump}");
    // A foreign rule leads here: it stays, empty.
    assert_eq!(model.chain("nat", "KUBE-SVC-BBBBBBBBBBBBBBBB"), Some(vec![]));
    assert_eq!(model.chain("nat", "MINE").unwrap().len(), 1);
    // No hook twice, none missing.
    assert_eq!(model.chain("nat", "PREROUTING").unwrap().len(), 1);
    assert_eq!(model.chain("filter", "FORWARD").unwrap().len(), 4);
    assert_eq!(model.chain("filter", "INPUT").unwrap().len(), 5);
    // One transaction for everything, besides what was there, and one for the canary of mangle.
    assert_eq!(model.inputs().len(), 3);
}

#[test]
fn cleanup_leaves_what_is_not_ours() {
    let model = Model::default();
    let foreign = "*filter\n:MINE - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n-A INPUT -p tcp -j MINE\nCOMMIT\n\
        *nat\n:MINE - [0:0]\n-A MINE -j KUBE\nCOMMIT\n*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
    let foreign = foreign.replace("-A MINE -j KUBE\n", "");
    model.apply(&foreign).unwrap();
    let before = model.dump();
    let mut config = config(IpFamily::V4);
    config.localhost_node_ports = true;
    let mut backend = backend(config, &model);
    full(&mut backend, &of(&samples(50)));
    assert!(block_on(backend.intact()).unwrap());
    cleanup(&model, false).unwrap();
    let shared = ":KUBE-FIREWALL - [0:0]\n";
    let jumps = ["-A INPUT -j KUBE-FIREWALL\n", "-A OUTPUT -j KUBE-FIREWALL\n"];
    let mut after = model.dump().replace(shared, "");
    for jump in jumps {
        assert!(after.contains(jump));
        after = after.replace(jump, "");
    }
    assert_eq!(after, before);
    assert!(!block_on(backend.intact()).unwrap());
    // Again: nothing to do.
    let inputs = model.inputs().len();
    assert!(!cleanup(&model, false).unwrap().found);
    assert_eq!(model.inputs().len(), inputs);
    assert!(!model.routes_localnet());
}

/// Endpoint chains of a Go kube-proxy lead to the chain that marks, which is deleted as well.
#[test]
fn cleanup_of_what_a_go_kube_proxy_left() {
    let model = Model::default();
    let rules = "*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-SEP-A - [0:0]\n\
        -A KUBE-SVC-A -j KUBE-SEP-A\n-A KUBE-SEP-A -s 10.1.1.1/32 -j KUBE-MARK-MASQ\nCOMMIT\n";
    model.apply(rules).unwrap();
    assert!(cleanup(&model, false).unwrap().found);
    assert!(!model.dump().contains("KUBE-"), "{}", model.dump());
}

/// As long as loopback addresses are routed, neighbours must be kept away from what listens there.
#[test]
fn the_rule_against_martians_stays_while_loopback_is_routed() {
    let model = Model::default();
    let mut config = config(IpFamily::V4);
    config.localhost_node_ports = true;
    let mut backend = backend(config, &model);
    full(&mut backend, &of(&samples(5)));
    model.keep_localnet(true);
    let error = cleanup(&model, false).unwrap_err();
    assert!(error.to_string().contains("route_localnet"), "{error}");
    assert_eq!(model.chain("filter", "KUBE-FIREWALL").unwrap().len(), 1);
    assert_eq!(model.chain("nat", "KUBE-SERVICES"), None, "the rest is removed all the same");
    model.keep_localnet(false);
    cleanup(&model, false).unwrap();
    assert_eq!(model.chain("filter", "KUBE-FIREWALL").unwrap().len(), 0);
    // Another program has such a rule: this one may go, and the setting stays.
    full(&mut backend, &of(&samples(5)));
    assert!(cleanup(&model, true).unwrap().found);
    assert_eq!(model.chain("filter", "KUBE-FIREWALL").unwrap().len(), 0);
    assert!(model.routes_localnet());
}

#[test]
fn flushed_rules_are_noticed() {
    let model = Model::default();
    let mut config = config(IpFamily::V4);
    config.localhost_node_ports = true;
    let mut backend = backend(config, &model);
    let snapshot = of(&one_rule_in_every_chain());
    full(&mut backend, &snapshot);
    let dump = model.dump();
    let mut table = "";
    let mut tried = 0;
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let chain = line.strip_prefix(':').and_then(|rest| rest.split(' ').next());
        let is_root = |chain: &str| chain == "KUBE-HAIRPIN" || chain == "KUBE-SEP-HAIRPIN";
        let Some(chain) = chain.filter(|chain| is_root(chain) || !is_dynamic(chain)) else {
            continue;
        };
        if model.chain(table, chain).unwrap().is_empty() {
            // Nothing to empty: built-in chains that have no hook, and the canaries.
            assert!(!chain.starts_with("KUBE-") || chain == CANARY, "{table} {chain}");
            continue;
        }
        tried += 1;
        model.apply(&format!("*{table}\n:{chain} - [0:0]\nCOMMIT\n")).unwrap();
        assert!(!block_on(backend.intact()).unwrap(), "{table} {chain}");
        full(&mut backend, &snapshot);
        assert!(block_on(backend.intact()).unwrap(), "{table} {chain}");
    }
    assert_eq!(tried, 11 + 8);
    model.apply("*mangle\n-X KUBE-PROXY-CANARY\nCOMMIT\n").unwrap();
    assert!(!block_on(backend.intact()).unwrap());
}

/// A partial sync may leave a root with other rules, or none.
#[test]
fn rules_are_intact_after_partial_syncs() {
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    let (all, few) = (of(&one_rule_in_every_chain()), of(&samples(1)));
    full(&mut backend, &few);
    for (before, after) in [(&few, &all), (&all, &few)] {
        partial(&mut backend, before, after);
        assert!(block_on(backend.intact()).unwrap());
        model.apply("*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n").unwrap();
        assert!(!block_on(backend.intact()).unwrap());
        full(&mut backend, after);
    }
}

/// Services because of which no chain that always exists is empty.
fn one_rule_in_every_chain() -> Vec<Sample> {
    let balanced = service("balanced", "10.96.1.1").local("10.1.1.1:80").node_port(30001);
    let refused = service("refused", "10.96.1.2").node_port(30002).external_ip("192.0.2.2");
    vec![
        balanced.vip("192.0.2.1").range("198.51.100.0/24").external_local().health_check(32001),
        refused,
    ]
}

/// Neighbours would reach what listens on loopback (CVE-2020-8558).
#[test]
fn localhost_is_not_routed_before_it_is_guarded() {
    let model = Model::default();
    let mut config = config(IpFamily::V4);
    config.localhost_node_ports = true;
    let mut backend = backend(config, &model);
    assert_eq!(model.inputs_before_localnet(), None);
    // A sync that fails does not set it.
    model.lose("filter");
    block_on(backend.sync(&of(&samples(1)), Scope::Full)).unwrap_err();
    assert_eq!(model.inputs_before_localnet(), None);
    model.lose("raw");
    full(&mut backend, &of(&samples(1)));
    let inputs = model.inputs_before_localnet().unwrap().concat();
    assert!(inputs.contains(&format!("-A KUBE-FIREWALL {ANTI_MARTIAN}")), "{inputs}");
}

#[test]
fn localhost_is_routed_only_for_node_ports_there() {
    let model = Model::default();
    full(&mut backend(config(IpFamily::V4), &model), &of(&samples(1)));
    assert_eq!(model.inputs_before_localnet(), None);
}

#[test]
fn a_kernel_without_mangle_serves() {
    let model = Model::default();
    model.lose("mangle");
    let mut backend = backend(config(IpFamily::V4), &model);
    let snapshot = of(&samples(3));
    for _ in 0..2 {
        full(&mut backend, &snapshot);
        assert!(block_on(backend.intact()).unwrap());
    }
    assert!(!model.chain("nat", "KUBE-SERVICES").unwrap().is_empty());
    cleanup(&model, false).unwrap();
    assert_eq!(model.chain("nat", "KUBE-SERVICES"), None);
}
