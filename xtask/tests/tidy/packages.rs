//! Rules about packages and what they depend on.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// Crates whose names start so bring a runtime, a cluster or a kernel, which `core` must not know.
const NOT_IN_CORE: [&str; 12] = [
    "tokio",
    "kube-client",
    "kube-core",
    "k8s-openapi",
    "libc",
    "nix",
    "rustix",
    "netlink",
    "neli",
    "hyper",
    "mio",
    "kube-proxy-netlink",
];

pub(crate) fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(super::root())
        .output()
        .expect("cargo can be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {stderr}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn name_of<'a>(metadata: &'a Value, id: &Value) -> &'a str {
    let package = list(&metadata["packages"]).find(|package| package["id"] == *id);
    package.and_then(|package| package["name"].as_str()).expect("each id has a package")
}

/// Ids of the packages that a node of the graph needs at run time.
fn needs<'a>(metadata: &'a Value, id: &Value) -> Vec<&'a Value> {
    let node = list(&metadata["resolve"]["nodes"]).find(|node| node["id"] == *id);
    let dependencies = node.map(|node| list(&node["deps"])).into_iter().flatten();
    let at_run_time =
        |dependency: &&Value| list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
    dependencies.filter(at_run_time).map(|dependency| &dependency["pkg"]).collect()
}

/// Names of everything a package of the workspace needs at run time, directly or not.
fn closure(metadata: &Value, package: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let start = list(&metadata["workspace_members"]).find(|id| name_of(metadata, id) == package);
    let mut open = needs(metadata, start.expect("the package is in the workspace"));
    while let Some(id) = open.pop() {
        if names.insert(name_of(metadata, id).to_owned()) {
            open.extend(needs(metadata, id));
        }
    }
    names
}

#[test]
fn core_knows_no_runtime_no_cluster_and_no_kernel() {
    let names = closure(&metadata(), "kube-proxy-core");
    assert!(names.contains("ipnet"), "the graph is not read right: {names:?}");
    let found: Vec<_> = names
        .iter()
        .filter(|name| NOT_IN_CORE.iter().any(|start| name.starts_with(start)) || *name == "kube")
        .collect();
    assert!(found.is_empty(), "kube-proxy-core must not depend on {found:?}");
}

#[test]
fn the_binary_contains_nothing_that_is_for_tests() {
    let names = closure(&metadata(), "kube-proxy");
    assert!(names.contains("tokio"), "the graph is not read right: {names:?}");
    for name in ["fake-apiserver", "kube-proxy-bench", "kube-proxy-testkit", "uml-xstate"] {
        assert!(!names.contains(name), "{name} is for tests only");
    }
}

/// Names in `[workspace.dependencies]` that do not come from this workspace.
fn declared() -> BTreeSet<String> {
    let text = fs::read_to_string(super::root().join("Cargo.toml")).expect("a Cargo.toml");
    let section = text.split("\n[workspace.dependencies]\n").nth(1).expect("the section is there");
    let section = section.split("\n[").next().unwrap_or_default();
    let entries = section.lines().filter_map(|line| line.split_once('='));
    entries
        .filter(|(name, value)| !name.starts_with('#') && !value.contains("path ="))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let text = fs::read_to_string(super::root().join("docs/dependencies.md"))
        .expect("there is docs/dependencies.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let explained: BTreeSet<_> =
        rows.filter(|(_, why)| why.trim().len() > 2).map(|(name, _)| name.to_owned()).collect();
    let declared = declared();
    let missing: Vec<_> = declared.difference(&explained).collect();
    let surplus: Vec<_> = explained.difference(&declared).collect();
    assert!(missing.is_empty(), "docs/dependencies.md does not explain {missing:?}");
    assert!(
        surplus.is_empty(),
        "docs/dependencies.md explains {surplus:?}, which Cargo.toml lacks"
    );
}

#[test]
fn every_declared_dependency_is_used() {
    let metadata = metadata();
    let members: BTreeSet<_> = list(&metadata["workspace_members"]).map(Value::to_string).collect();
    let used: BTreeSet<_> = list(&metadata["packages"])
        .filter(|package| members.contains(&package["id"].to_string()))
        .flat_map(|package| list(&package["dependencies"]))
        .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
        .collect();
    let unused: Vec<_> = declared().difference(&used).cloned().collect();
    assert!(unused.is_empty(), "no package uses {unused:?} of [workspace.dependencies]");
}
