//! No circles between the modules of a crate: each can be read, moved and tested without those that need it.
//!
//! A file needs another one when it names an item that is defined there, by `use` or by path.
//! Declaring a module is no need, nor is passing on its items (`pub use`) without using them; who imports an item from a
//! module that only passes it on needs the file that defines it.
//! Modules that share a parent, each with all that is below it, may need each other in one direction only.
//! A module and its own children are one: a child may name what its parents define.

mod lexer;
mod module;
mod package;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::package::{Edges, Package};

/// Which modules of the workspace need which, tests aside.
fn edges() -> Edges {
    let texts: BTreeMap<_, _> =
        crate::files::all().into_iter().map(|file| (file.path, file.text)).collect();
    let roots =
        texts.keys().filter(|path| path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs"));
    roots.flat_map(|root| Package::read(root, &|path| texts.get(path).cloned()).edges()).collect()
}

/// The shortest way from a file back to itself.
fn circle_of(edges: &Edges, start: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| edges.get(last)).into_iter().flat_map(BTreeMap::keys)
        {
            let longer = [&way[..], std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Circles, each once, shortest first.
fn circles(edges: &Edges) -> Vec<Vec<String>> {
    let mut circles: Vec<_> = edges.keys().filter_map(|file| circle_of(edges, file)).collect();
    circles.sort_by_key(Vec::len);
    let mut seen = BTreeSet::new();
    circles.retain(|circle| seen.insert(circle.iter().cloned().collect::<BTreeSet<_>>()));
    circles
}

#[test]
fn modules_need_each_other_in_one_direction_only() {
    let edges = edges();
    let needed = |edges: &Edges, from: &str, to: &str| {
        edges.get(from).is_some_and(|needs| needs.contains_key(to))
    };
    assert!(
        needed(&edges, "xtask/src/soak.rs", "xtask/src/workspace.rs"),
        "files are not read right: {edges:?}"
    );
    let circles: Vec<_> = circles(&edges).iter().map(|circle| told(&edges, circle)).collect();
    assert!(
        circles.is_empty(),
        "{} circles of files; see CONTRIBUTING.md for the rule:\n\n{}",
        circles.len(),
        circles.join("\n\n")
    );
}

/// A circle with the files that make it one.
fn told(edges: &Edges, circle: &[String]) -> String {
    let needs = circle.windows(2).map(|pair| {
        let (from, to) = &edges[&pair[0]][&pair[1]];
        format!("{} needs {}: {from} names an item of {to}", pair[0], pair[1])
    });
    needs.collect::<Vec<_>>().join("\n")
}

/// A small crate, by file.
fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let files: BTreeMap<_, _> = files.iter().copied().collect();
    let text = |path: &str| files.get(path).map(|text| (*text).to_owned());
    circles(&Package::read("src/lib.rs", &text).edges())
}

#[test]
fn a_circle_is_found_through_imports_paths_and_modules_that_pass_items_on() {
    let through_parent = of(&[
        ("src/lib.rs", "mod a; pub use a::{f, g};"),
        ("src/a.rs", "mod b; mod c; pub use self::b::f; pub use c::*;"),
        ("src/a/b.rs", "use super::g; pub fn f() { g() }"),
        ("src/a/c.rs", "pub fn g() { crate::a::f() }"),
    ]);
    assert_eq!(through_parent, [["src/a/b.rs", "src/a/c.rs", "src/a/b.rs"]]);
    let through_children = of(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "pub mod c; fn f() { crate::b::g() }"),
        ("src/a/c.rs", "pub struct C;"),
        ("src/b.rs", "mod d; pub fn g() {}"),
        ("src/b/d.rs", "use crate::a::c; fn h() -> Option<c::C> { None }"),
    ]);
    assert_eq!(through_children, [["src/a.rs", "src/b.rs", "src/a.rs"]]);
}

#[test]
fn what_is_no_circle_is_left_alone() {
    let passed_on = of(&[
        ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("src/a.rs", "use crate::B; pub struct A(B);"),
        ("src/b.rs", "#[cfg(test)] use crate::A; pub struct B; #[cfg(test)] mod tests;"),
    ]);
    assert!(passed_on.is_empty(), "{passed_on:?}");
    let with_parent = of(&[
        ("src/lib.rs", "mod a; mod b; use a::c; struct S; fn f() { c::g() }"),
        ("src/a.rs", "pub mod c; pub struct A;"),
        ("src/a/c.rs", "use super::A; use crate::S; pub fn g() -> A {}"),
        ("src/b.rs", "use std::fmt; use fmt::Debug;"),
    ]);
    assert!(with_parent.is_empty(), "{with_parent:?}");
}
