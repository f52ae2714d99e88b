//! Licences of all packages are those that `deny.toml` allows, and the compiler is the oldest that is supported.

use crate::packages::{list, metadata};

fn read(path: &str) -> String {
    std::fs::read_to_string(crate::root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Licences for all, and those for one crate with its name.
fn allowed() -> (Vec<String>, Vec<(String, String)>) {
    let text = read("deny.toml");
    let section = text.split("\n[licenses]\n").nth(1).expect("a section");
    let section = section.split("\n[").next().unwrap_or_default();
    let (mut all, mut exceptions) = (Vec::new(), Vec::new());
    let code = section.lines().filter(|line| !line.trim_start().starts_with('#'));
    for line in code {
        let texts: Vec<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        match texts.as_slice() {
            [name, licence] if line.contains("crate =") => {
                exceptions.push((name.clone(), licence.clone()));
            }
            [licence] if line.starts_with("    \"") => all.push(licence.clone()),
            _ => {}
        }
    }
    assert!(all.len() > 3 && exceptions.len() > 1, "deny.toml is not read right");
    (all, exceptions)
}

/// Whether an expression of SPDX allows the use: one licence of each group that OR joins, all that AND joins.
fn permits(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (result, rest) = any(&words, is_allowed);
    assert!(rest.is_empty(), "{expression} is not read to its end");
    result
}

fn any<'a>(words: &'a [&'a str], is_allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    let (mut result, mut rest) = every(words, is_allowed);
    while let Some(("OR", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        let (other, after) = every(after, is_allowed);
        (result, rest) = (result | other, after);
    }
    (result, rest)
}

fn every<'a>(words: &'a [&'a str], is_allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    let (mut result, mut rest) = one(words, is_allowed);
    while let Some(("AND", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        let (other, after) = one(after, is_allowed);
        (result, rest) = (result & other, after);
    }
    (result, rest)
}

fn one<'a>(words: &'a [&'a str], is_allowed: &dyn Fn(&str) -> bool) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (result, rest) = any(inner, is_allowed);
            (result, rest.strip_prefix(&[")"]).expect("a closing parenthesis"))
        }
        [name, "WITH", exception, rest @ ..] => {
            (is_allowed(&format!("{name} WITH {exception}")), rest)
        }
        [name, rest @ ..] => (is_allowed(name), rest),
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn licences_are_allowed() {
    let (all, exceptions) = allowed();
    let metadata = metadata();
    let mut wrong = Vec::new();
    let reached = list(&metadata["resolve"]["nodes"]).count();
    for node in list(&metadata["resolve"]["nodes"]) {
        let package = list(&metadata["packages"]).find(|package| package["id"] == node["id"]);
        let package = package.expect("each id has a package");
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or("none");
        let is_allowed = |licence: &str| {
            let exception = |(of, what): &(String, String)| of == name && what == licence;
            all.iter().any(|one| one == licence) || exceptions.iter().any(exception)
        };
        if !permits(licence, &is_allowed) {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    assert!(reached > 200, "only {reached} packages");
    assert!(wrong.is_empty(), "licences that deny.toml does not allow: {wrong:#?}");
}

#[test]
fn expressions_are_read_right() {
    let mit = |name: &str| name == "MIT" || name == "A WITH B";
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("Apache-2.0/MIT", true),
        ("(GPL-3.0 OR MIT) AND Unicode-3.0", false),
        ("MIT AND (Zlib OR MIT)", true),
        ("A WITH B OR Zlib", true),
        ("A", false),
    ] {
        assert_eq!(permits(expression, &mit), expected, "{expression}");
    }
}

/// Everything is compiled and tested with the oldest compiler that is promised.
#[test]
fn the_toolchain_is_the_oldest_that_is_supported() {
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the key is there");
        line.trim_matches([' ', '=', '"']).to_owned()
    };
    let supported = value(&read("Cargo.toml"), "rust-version");
    let used = value(&read("rust-toolchain.toml"), "channel");
    assert_eq!(used, format!("{supported}.0"));
}
