use super::*;
use crate::debug::Finding;

fn finding(severity: Severity, what: &str) -> Finding {
    let long = "A sentence that is much longer than a line of a terminal, ".repeat(4);
    Finding::new(severity, "an-id", what, long.clone(), long)
}

/// Problems come first, and each head has its meaning and remedy below it.
#[test]
fn problems_are_on_the_first_screen() {
    let findings = vec![
        finding(Severity::Note, "a note"),
        finding(Severity::Problem, "a problem"),
        finding(Severity::Warning, "a warning"),
    ];
    let text = text(&Report::of(findings, None), Style::plain());
    let heads: Vec<_> = text.lines().filter(|line| line.contains(": a ")).collect();
    assert_eq!(heads, ["PROBLEM: a problem", "Warning: a warning", "Note: a note"]);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert_eq!(text.matches("\n  To do: ").count(), 3, "{text}");
}
