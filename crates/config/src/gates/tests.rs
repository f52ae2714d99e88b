use std::collections::BTreeMap;

use super::{FeatureGates, remark};
use crate::testing::{Given, file, flags};

fn settings(settings: &[(&str, bool)]) -> BTreeMap<String, bool> {
    settings.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

fn resolve(gates: &[(&str, bool)]) -> FeatureGates {
    FeatureGates::resolve(&settings(gates))
}

/// What is said of these gates, without the words that are always the same.
fn said(gates: &[(&str, bool)]) -> Option<String> {
    let remark = remark(&settings(gates), "iptables")?;
    Some(remark.strip_prefix("these feature gates have no effect here: ").unwrap().to_owned())
}

#[test]
fn defaults_hold_unless_set() {
    let gates = resolve(&[("AllowServiceExternalIPs", false)]);
    assert!(!gates.enabled("AllowServiceExternalIPs"));
    assert!(gates.enabled("ComponentStatusz"));
    assert!(!gates.enabled("LoggingAlphaOptions"));
    assert!(!gates.enabled("NoSuchGate"));
}

#[test]
fn a_group_sets_its_stage_and_a_gate_wins_over_its_group() {
    let gates = resolve(&[("AllAlpha", true), ("AllBeta", false), ("ComponentFlagz", true)]);
    assert!(gates.enabled("LoggingAlphaOptions"));
    assert!(gates.enabled("ComponentFlagz"));
    assert!(!gates.enabled("ComponentStatusz"));
    assert!(gates.enabled("NFTablesProxyMode"));
}

#[test]
fn a_locked_gate_keeps_its_state_and_the_line_says_so() {
    assert_eq!(said(&[("NFTablesProxyMode", true)]), None);
    assert_eq!(
        said(&[("NFTablesProxyMode", false)]).unwrap(),
        "NFTablesProxyMode (locked to true)"
    );
    assert!(resolve(&[("NFTablesProxyMode", false)]).enabled("NFTablesProxyMode"));
}

#[test]
fn gates_without_effect_are_listed_in_one_line() {
    let effective = [("AllAlpha", true), ("AllBeta", false), ("AllowServiceExternalIPs", false)];
    assert_eq!(said(&effective), None);
    // Of a kubelet, of 1.37, removed long ago, and one of which only Go has the inside.
    let others = [
        ("KubeletInUserNamespace", true),
        ("KubeProxyIPVS", true),
        ("NFTablesNetlink", false),
        ("SupportIPVSProxyMode", true),
        ("ContextualLogging", false),
    ];
    assert_eq!(
        said(&others).unwrap(),
        "ContextualLogging, KubeProxyIPVS, KubeletInUserNamespace, NFTablesNetlink, SupportIPVSProxyMode"
    );
    assert!(resolve(&others).enabled("ContextualLogging"));
}

#[test]
fn a_near_miss_gets_a_suggestion() {
    assert_eq!(
        said(&[("AllowServiceExternalIP", false)]).unwrap(),
        "AllowServiceExternalIP (did you mean AllowServiceExternalIPs?)"
    );
    assert_eq!(
        said(&[("nftablesproxymod", true)]).unwrap(),
        "nftablesproxymod (did you mean NFTablesProxyMode?)"
    );
    assert_eq!(said(&[("Frobnicate", true)]).unwrap(), "Frobnicate");
    assert_eq!(said(&[("a\nb", true)]).unwrap(), "a\\nb");
    assert_eq!(said(&[(&"x".repeat(100_000), true)]).unwrap().len(), 100);
}

#[test]
fn the_ipvs_mode_stays_whatever_its_gate() {
    let loaded = flags("--proxy-mode=ipvs --feature-gates=KubeProxyIPVS=false");
    assert_eq!(
        loaded.warnings,
        ["these feature gates have no effect here: KubeProxyIPVS (the ipvs mode stays supported)"]
    );
}

#[test]
fn any_gate_is_accepted_from_file_flag_and_environment() {
    let expected = ["these feature gates have no effect here: KubeletInUserNamespace"];
    let gates = "featureGates: {KubeletInUserNamespace: true, AllowServiceExternalIPs: false}";
    let loaded = file(gates);
    assert_eq!(loaded.warnings, expected);
    assert!(!loaded.effective.feature_gates.enabled("AllowServiceExternalIPs"));
    // The forms that Go reads.
    for (text, state) in
        [("True", true), ("1", true), ("t", true), (" FALSE", false), ("F ", false)]
    {
        let value = format!(" AllowServiceExternalIPs ={text},,KubeletInUserNamespace=T,");
        let variables = &[("KUBE_PROXY_FEATURE_GATES", value.as_str())];
        let loaded = Given { variables, ..Given::default() }.loaded();
        assert_eq!(loaded.warnings, expected, "{value:?}");
        assert_eq!(loaded.effective.feature_gates.enabled("AllowServiceExternalIPs"), state);
        let flag = format!("--feature-gates={}", value.replace(' ', ""));
        assert_eq!(flags(&flag).effective.feature_gates, loaded.effective.feature_gates);
    }
}

#[test]
fn a_value_that_is_no_boolean_is_an_error() {
    let error = Given { flags: "--feature-gates=Nope=maybe", ..Given::default() }.error();
    assert!(error.contains("Nope: true or false is expected"), "{error}");
    for value in ["maybe", "'true'", "1"] {
        let body = format!("featureGates: {{Nope: {value}}}");
        let error = Given { file: Some(&body), ..Given::default() }.error();
        assert!(error.contains("featureGates.Nope: invalid type"), "{error}");
    }
}
