use std::collections::BTreeMap;

use super::FeatureGates;

fn resolve(settings: &[(&str, bool)]) -> Result<FeatureGates, Vec<(String, String)>> {
    let settings: BTreeMap<_, _> =
        settings.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect();
    FeatureGates::resolve(&settings)
}

fn reason(name: &str, state: bool) -> String {
    resolve(&[(name, state)]).unwrap_err().remove(0).1
}

#[test]
fn defaults_hold_unless_set() {
    let gates = resolve(&[("AllowServiceExternalIPs", false)]).unwrap();
    assert!(!gates.enabled("AllowServiceExternalIPs"));
    assert!(gates.enabled("ComponentStatusz"));
    assert!(!gates.enabled("NativeHistograms"));
    assert!(!gates.enabled("NoSuchGate"));
}

#[test]
fn a_group_sets_its_stage_and_a_gate_wins_over_its_group() {
    let gates =
        resolve(&[("AllAlpha", true), ("AllBeta", false), ("ComponentFlagz", true)]).unwrap();
    assert!(gates.enabled("NativeHistograms"));
    assert!(gates.enabled("ComponentFlagz"));
    assert!(!gates.enabled("ComponentStatusz"));
    assert!(gates.enabled("NFTablesProxyMode"));
}

#[test]
fn a_locked_gate_takes_its_own_state_only() {
    assert!(resolve(&[("NFTablesProxyMode", true)]).is_ok());
    assert_eq!(
        reason("NFTablesProxyMode", false),
        "this feature is locked to true and cannot be changed"
    );
}

#[test]
fn an_unknown_gate_gets_a_suggestion_if_one_is_near() {
    assert_eq!(
        reason("nftablesproxymod", true),
        "unrecognized feature gate, did you mean NFTablesProxyMode?"
    );
    assert_eq!(reason("Frobnicate", true), "unrecognized feature gate");
    assert_eq!(reason(&"x".repeat(100_000), true), "unrecognized feature gate");
}

#[test]
fn every_wrong_gate_is_reported() {
    let errors = resolve(&[("A", true), ("B", true), ("MultiCIDRServiceAllocator", false)]);
    assert_eq!(errors.unwrap_err().len(), 3);
}
