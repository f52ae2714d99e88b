use super::Outcome;

fn outcome(console: &str) -> Outcome {
    let (mut outcome, mut summary) = (Outcome::default(), String::new());
    for line in console.lines() {
        outcome.read(line, &mut summary);
    }
    outcome
}

#[test]
fn each_suite_has_its_own_result() {
    let outcome = outcome(
        "test result: ok. 3 passed\n@@ kernel 0\ntest result: ok. 1 passed\n@@ e2e 0\n@@ end 0\n",
    );
    let expected = [("kernel", "ok. 3 passed"), ("e2e", "ok. 1 passed")];
    assert_eq!(outcome.suites, expected.map(|(suite, result)| (suite.into(), result.into())));
    assert!(outcome.is_good());
}

#[test]
fn what_failed_or_did_not_end_is_not_good() {
    assert!(!outcome("test result: ok. 3 passed\n@@ kernel 0\n").is_good());
    assert!(!outcome("test result: FAILED. 2 passed\n@@ kernel 101\n@@ end 0\n").is_good());
    let crashed = outcome("@@ kernel 139\n@@ end 0\n");
    assert_eq!(crashed.suites[0].1, "ended with 139 before any test");
    assert!(!crashed.is_good());
}
