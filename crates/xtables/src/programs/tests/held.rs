//! When a program is asked for what was there before.

use std::fs;

use super::*;
use crate::check::Check;

const CHAINS: [Check; 2] = [
    Check::Chain { table: "nat", chain: "KUBE-SERVICES" },
    Check::Chain { table: "filter", chain: "KUBE-FORWARD" },
];

/// Writes a line for each time it runs, and finds nothing while there is another file.
const PROGRAM: &str = "echo run >> \"$0-runs\"; test ! -e \"$0-missing\" || { \
    echo No chain/target/match by that name >&2; exit 1; }";

#[test]
fn programs_are_asked_again_only_after_a_change() {
    let main = script(PROGRAM);
    let [runs, missing] = ["runs", "missing"].map(|file| format!("{}-{file}", main.path()));
    let programs = programs(main.path());
    let ask = |generation, checks: &[Check]| {
        let answer = programs.hold_in(generation, checks).unwrap();
        let count = fs::read_to_string(&runs).unwrap_or_default().lines().count();
        let _ = fs::remove_file(&runs);
        (count, answer)
    };
    assert_eq!(ask(Some(7), &CHAINS), (2, true));
    assert_eq!(ask(Some(7), &CHAINS), (0, true), "nothing has changed");
    assert_eq!(ask(Some(7), &CHAINS[..1]), (1, true), "another question");
    assert_eq!(ask(Some(8), &CHAINS[..1]), (1, true), "somebody changed something");
    assert_eq!(ask(None, &CHAINS), (2, true), "the kernel does not say");
    assert_eq!(ask(None, &CHAINS), (2, true), "nor now");
    fs::write(&missing, "").unwrap();
    let after_damage = [ask(Some(9), &CHAINS), ask(Some(9), &CHAINS)];
    let _ = fs::remove_file(&missing);
    assert_eq!(after_damage, [(1, false); 2], "what is missing is looked for each time");
}
