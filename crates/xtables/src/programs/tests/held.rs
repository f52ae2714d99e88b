//! When programs are asked for what must be there, and how.

use std::fs;

use super::*;
use crate::check::Check;

const CHAINS: [Check; 2] = [
    Check::Chain { table: "nat", chain: "KUBE-SERVICES" },
    Check::Chain { table: "filter", chain: "KUBE-FORWARD" },
];

/// Programs that write a line for each time that they run.
struct Scripts {
    main: scripts::Script,
    restore: scripts::Script,
}

impl Scripts {
    fn new(main: &str, restore: &str) -> Self {
        let counting = |text: &str| format!("echo run >> \"$0-runs\"; {text}");
        let main = script(&counting(main));
        let path = format!("{}-restore", main.path()).into();
        Self { restore: scripts::Script::at(path, &counting(restore)), main }
    }

    /// How often each ran since the last time: the one for all questions, and the one for each.
    fn runs(&self) -> (usize, usize) {
        let count = |script: &scripts::Script| {
            let path = format!("{}-runs", script.path());
            let count = fs::read_to_string(&path).unwrap_or_default().lines().count();
            let _ = fs::remove_file(path);
            count
        };
        (count(&self.restore), count(&self.main))
    }

    fn programs(&self) -> Programs {
        programs(self.main.path())
    }
}

/// Finds everything but the last, or nothing while there is another file.
const ALL: &str = "last=$(wc -l); test ! -e \"$0-missing\" || last=3; \
    echo iptables-nft-restore: line $((last - 1)) failed >&2; exit 1";

#[test]
fn programs_are_asked_again_only_after_a_change() {
    let scripts = Scripts::new("exit 3", ALL);
    let programs = scripts.programs();
    let ask = |generation, checks: &[Check]| {
        let answer = programs.hold_in(generation, checks).unwrap();
        (scripts.runs(), answer)
    };
    assert_eq!(ask(Some(7), &CHAINS), ((1, 0), true));
    assert_eq!(ask(Some(7), &CHAINS), ((0, 0), true), "nothing has changed");
    assert_eq!(ask(Some(7), &CHAINS[..1]), ((1, 0), true), "another question");
    assert_eq!(ask(Some(8), &CHAINS[..1]), ((1, 0), true), "somebody changed something");
    assert_eq!(ask(None, &CHAINS), ((1, 0), true), "the kernel does not say");
    assert_eq!(ask(None, &CHAINS), ((1, 0), true), "nor now");
    let missing = format!("{}-missing", scripts.restore.path());
    fs::write(&missing, "").unwrap();
    let after_damage = [ask(Some(9), &CHAINS), ask(Some(9), &CHAINS)];
    let _ = fs::remove_file(&missing);
    assert_eq!(after_damage, [((1, 0), false); 2], "what is missing is looked for each time");
}

#[test]
fn versions_that_name_the_end_of_the_table_are_understood() {
    // Tables end in the lines 3, 6 and 9.
    for (line, all) in [(3, false), (6, false), (9, true)] {
        let say = format!("cat > /dev/null; echo iptables-restore: line {line} failed >&2; exit 1");
        let scripts = Scripts::new("exit 3", &say);
        assert_eq!(scripts.programs().hold_in(None, &CHAINS).unwrap(), all, "line {line}");
        assert_eq!(scripts.runs(), (1, 0));
    }
}

#[test]
fn where_one_program_does_not_say_each_is_asked_for() {
    let unclear = [
        "exit 0",
        "echo table nat is incompatible, use nft tool >&2; exit 1",
        "echo iptables-nft-restore: line 9 failed: Permission denied >&2; exit 1",
        "echo Error occurred at line: 2 >&2; exit 2",
    ];
    for restore in unclear {
        let scripts = Scripts::new("exit 0", &format!("cat > /dev/null; {restore}"));
        assert!(scripts.programs().hold_in(None, &CHAINS).unwrap(), "{restore}");
        assert_eq!(scripts.runs(), (1, 2), "{restore}");
        let none = "echo No chain/target/match by that name >&2; exit 1";
        let scripts = Scripts::new(none, &format!("cat > /dev/null; {restore}"));
        assert!(!scripts.programs().hold_in(None, &CHAINS).unwrap(), "{restore}");
        assert_eq!(scripts.runs(), (1, 1), "{restore}");
    }
}

#[test]
fn a_rule_that_leads_to_a_chain_that_is_gone_is_missing() {
    let say = "echo \"Chain 'KUBE-SERVICES' does not exist\" >&2; \
        echo Error occurred at line: 2 >&2; exit 2";
    let scripts = Scripts::new(say, &format!("cat > /dev/null; {say}"));
    assert!(!scripts.programs().hold_in(None, &CHAINS).unwrap());
    assert_eq!(scripts.runs(), (1, 0));
    assert!(!scripts.programs().hold_each(&CHAINS).unwrap());
}
