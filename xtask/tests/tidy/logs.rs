//! docs/log-messages.md has every warning and error of the product, and nothing else.

use std::collections::BTreeSet;

use crate::files;

/// Crates of tests, whose messages operators do not see.
const TEST_CRATES: [&str; 3] = ["crates/bench/", "crates/fake-apiserver/", "crates/testkit/"];

#[test]
fn every_warning_and_error_is_explained() {
    let files = files::all();
    let page = files.iter().find(|file| file.path == "docs/log-messages.md").expect("the page");
    let explained: BTreeSet<String> = page
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(message, _)| message.to_owned())
        .collect();
    let said: BTreeSet<String> = files
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("crates/"))
        .filter(|file| file.path.contains("/src/") && !file.path.contains("tests"))
        .filter(|file| !TEST_CRATES.iter().any(|of| file.path.starts_with(of)))
        .flat_map(|file| messages(&file.text))
        .collect();
    assert!(said.len() > 40, "the sources are not read right: {said:?}");
    let missing: Vec<_> = said.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&said).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/log-messages.md lacks {missing:#?}, and explains what is never said: {stale:#?}"
    );
}

/// The texts of `warn!` and `error!`, with `…` for what varies. One that only varies is none.
fn messages(source: &str) -> Vec<String> {
    let calls = ["warn!(", "error!("].into_iter().flat_map(|name| source.split(name).skip(1));
    let texts = calls.filter_map(message).map(|text| pattern(&text));
    texts.filter(|text| text.contains(char::is_alphabetic)).collect()
}

/// The first string of the arguments that is no field's value.
fn message(call: &str) -> Option<String> {
    let (mut depth, mut before) = (1, ',');
    let mut rest = call.chars();
    while let Some(next) = rest.next() {
        match next {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            '"' => {
                let text = string(&mut rest);
                if depth == 1 && before == ',' {
                    return Some(text);
                }
            }
            _ => {}
        }
        if depth == 0 {
            return None;
        }
        before = if next.is_whitespace() { before } else { next };
    }
    None
}

/// The rest of a string literal: escapes resolved, continued lines joined.
fn string(rest: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(next) = rest.next() {
        match next {
            '"' => break,
            '\\' => match rest.next() {
                Some('\n') => *rest = rest.as_str().trim_start().chars(),
                Some(escaped) => text.push(escaped),
                None => break,
            },
            other => text.push(other),
        }
    }
    text
}

/// `…` in place of each `{…}`.
fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    let mut inside = false;
    for next in text.chars() {
        match next {
            '{' => (pattern.push('…'), inside = true).1,
            '}' => inside = false,
            other if !inside => pattern.push(other),
            _ => {}
        }
    }
    pattern
}

#[test]
fn texts_of_calls_are_found() {
    let source = "tracing::warn!(%family, name = \"x\", \"cannot \\\n    do {what}: {}\", f(\"y\")); error!(\"{error}\"); warn!(a = 1)";
    assert_eq!(messages(source), ["cannot do …: …"]);
}
