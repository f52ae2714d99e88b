//! Manifest files instead of an API server, followed live.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::Outcome;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Once;
use crate::objects::{Svc, node};
use crate::traffic::{SILENCE, Traffic, becomes, ends};
use crate::world::{From, GUARD, Mode, NODE, TARGET, World, cluster_address};

pub(crate) const TESTS: &[Once] = &[
    ("manifests/file", file),
    ("manifests/directory", directory),
    ("manifests/edited-in-place", edited_in_place),
    ("manifests/renamed-over", renamed_over),
    ("manifests/config-map", config_map),
    ("manifests/json-and-lists", json_and_lists),
    ("manifests/syntax-error", syntax_error),
    ("manifests/wrong-type", wrong_type),
    ("manifests/bad-value", bad_value),
    ("manifests/duplicate", duplicate),
    ("manifests/file-away-for-a-while", away_for_a_while),
    ("manifests/missing-path", missing_path),
    ("manifests/without-a-node", without_a_node),
];

const CLIENT: From = From::Pod("client");

/// A world without a proxy, and a place for manifests.
fn begin() -> anyhow::Result<(World, TempDir)> {
    let world = World::without_proxy(Mode::IptablesNft, &[])?;
    Ok((world, tempfile::tempdir()?))
}

/// Starts the proxy with manifests of this path.
fn start(world: &mut World, path: &Path) -> anyhow::Result<()> {
    world.source = vec![format!("--manifests={}", path.display())];
    world.start()
}

/// A Service with slices, each object a document.
fn documents(world: &World, service: &Svc, pods: &[&str]) -> String {
    let slices = service.slices(TARGET, &world.endpoints(pods));
    [service.object()].iter().chain(&slices).map(document).collect()
}

/// JSON is YAML.
fn document(object: &Value) -> String {
    format!("---\n{object:#}\n")
}

fn answers(world: &World, number: u8, pod: &str) {
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(number, family), pod);
    }
}

fn file() -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    let path = dir.path().join("all.yaml");
    let node = document(&node(NODE, 0, "zone-a"));
    let service = documents(&world, &Svc::new("web", 1).node_port(), &["local-1", "remote-1"]);
    fs::write(&path, format!("# A cluster in a file.\n{node}{service}"))?;
    start(&mut world, &path)?;
    for family in IpFamily::BOTH {
        world.check_pods(CLIENT, cluster_address(1, family), &["local-1", "remote-1"])?;
        world.check_pods(From::Outside, world.node_port(1, family), &["local-1", "remote-1"])?;
    }
    Ok(())
}

/// Files come, go and are nested.
fn directory() -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    fs::write(dir.path().join("one.yaml"), documents(&world, &Svc::new("one", 1), &["local-1"]))?;
    fs::write(dir.path().join("notes.txt"), "not: [a manifest")?;
    start(&mut world, dir.path())?;
    answers(&world, 1, "local-1");
    fs::create_dir(dir.path().join("more"))?;
    fs::write(
        dir.path().join("more/two.yml"),
        documents(&world, &Svc::new("two", 2), &["local-2"]),
    )?;
    answers(&world, 2, "local-2");
    fs::remove_file(dir.path().join("one.yaml"))?;
    for family in IpFamily::BOTH {
        ends(world.probe(CLIENT), cluster_address(1, family), Outcome::is_timed_out);
    }
    answers(&world, 2, "local-2");
    Ok(())
}

/// Runs traffic while an endpoint moves by whatever `write` does with the new text.
fn followed(write: fn(&Path, &str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    let path = dir.path().join("all.yaml");
    write(&path, &documents(&world, &Svc::new("web", 1).node_port(), &["local-1"]))?;
    start(&mut world, &path)?;
    let traffic = Traffic::to_service(&world, 1)?;
    for pod in ["local-2", "remote-1", "local-1"] {
        write(&path, &documents(&world, &Svc::new("web", 1).node_port(), &[pod]))?;
        answers(&world, 1, pod);
    }
    traffic.stop()?;
    let complaints =
        world.proxy().lines().into_iter().filter(|line| line.contains(" WARN all.yaml"));
    ensure!(complaints.count() == 0, "half a file was taken for a whole one");
    Ok(())
}

fn edited_in_place() -> anyhow::Result<()> {
    followed(|path, text| Ok(fs::write(path, text)?))
}

fn renamed_over() -> anyhow::Result<()> {
    followed(|path, text| {
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        Ok(fs::rename(new, path)?)
    })
}

/// A kubelet writes a ConfigMap into a new directory and then turns a link to it.
fn config_map() -> anyhow::Result<()> {
    followed(|path, text| {
        let dir = path.parent().context("a directory")?;
        let real = tempfile::Builder::new().prefix("..2026_").tempdir_in(dir)?.keep();
        fs::write(real.join("all.yaml"), text)?;
        symlink(real.file_name().context("a name")?, dir.join("..data_tmp"))?;
        let old = fs::canonicalize(dir.join("..data"));
        fs::rename(dir.join("..data_tmp"), dir.join("..data"))?;
        if let Ok(old) = old {
            fs::remove_dir_all(old)?;
        } else {
            symlink("..data/all.yaml", path)?;
        }
        Ok(())
    })
}

fn json_and_lists() -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    let service = Svc::new("one", 1);
    let mut items = service.slices(TARGET, &world.endpoints(&["local-1"]));
    items.push(service.object());
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    fs::write(dir.path().join("list.json"), list.to_string())?;
    let typed = json!({ "apiVersion": "v1", "kind": "ServiceList", "items": [Svc::new("two", 2).object()] });
    fs::write(dir.path().join("services.json"), format!("{typed:#}"))?;
    let slices = Svc::new("two", 2).slices(TARGET, &world.endpoints(&["local-2"]));
    fs::write(dir.path().join("slices.yaml"), slices.iter().map(document).collect::<String>())?;
    start(&mut world, dir.path())?;
    answers(&world, 1, "local-1");
    answers(&world, 2, "local-2");
    Ok(())
}

/// How a file is broken.
struct Breakage {
    /// Turns the good text of the first Service into a bad one.
    apply: fn(&str) -> String,
    /// What the one log line must name.
    named: &'static [&'static str],
}

/// Breaks a document in the middle of a file: what it said before stays, the others are followed, one line says what is wrong.
fn broken(breakage: &Breakage) -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    let path = dir.path().join("all.yaml");
    let good = |pod: &str| documents(&world, &Svc::new("first", 1).node_port(), &[pod]);
    let (before, after) = (good("local-1"), good("remote-1"));
    let other = |pod: &str| documents(&world, &Svc::new("second", 2), &[pod]);
    let others = [other("local-1"), other("local-2"), other("remote-1")];
    fs::write(&path, format!("{}{before}", others[0]))?;
    start(&mut world, &path)?;
    answers(&world, 1, "local-1");
    let traffic = Traffic::to_service(&world, 1)?;
    let bad = (breakage.apply)(&before);
    ensure!(bad != before, "the text was changed");
    for (other, pod) in others.iter().zip(["local-1", "local-2", "remote-1"]).skip(1) {
        fs::write(&path, format!("{other}{bad}"))?;
        answers(&world, 2, pod);
    }
    traffic.stop()?;
    answers(&world, 1, "local-1");
    let lines = world.proxy().lines();
    let fits = |line: &&String| breakage.named.iter().all(|name| line.contains(name));
    let complaints: Vec<_> =
        lines.iter().filter(|line| line.contains(" WARN ")).filter(fits).collect();
    ensure!(complaints.len() == 1, "not one line, but {complaints:#?} of:\n{}", lines.join("\n"));
    fs::write(&path, format!("{}{after}", others[2]))?;
    answers(&world, 1, "remote-1");
    Ok(())
}

fn syntax_error() -> anyhow::Result<()> {
    broken(&Breakage {
        apply: |text| text.replacen("\"metadata\": {", "\"metadata\": {{", 1),
        named: &["all.yaml", "document 4", "line "],
    })
}

fn wrong_type() -> anyhow::Result<()> {
    broken(&Breakage {
        apply: |text| text.replacen("\"port\": 80", "\"port\": {}", 1),
        named: &["all.yaml", "document 4", "spec.ports[0].port", "line "],
    })
}

/// A value that cannot be: the rest of the object counts.
fn bad_value() -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    let path = dir.path().join("all.yaml");
    let service = Svc::new("web", 1).with("/spec/externalIPs", vec!["10.0.0.300"]);
    fs::write(&path, documents(&world, &service, &["local-1"]))?;
    start(&mut world, &path)?;
    answers(&world, 1, "local-1");
    let named = ["default/web", "spec.externalIPs[0]", "10.0.0.300", "all.yaml, document 1, line "];
    world.proxy().wait_for_line(GUARD, |line| named.iter().all(|name| line.contains(name)))?;
    Ok(())
}

/// The first counts, and both places are named.
fn duplicate() -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    fs::write(dir.path().join("a.yaml"), documents(&world, &Svc::new("web", 1), &["local-1"]))?;
    fs::write(dir.path().join("b.yaml"), document(&Svc::new("web", 2).object()))?;
    start(&mut world, dir.path())?;
    answers(&world, 1, "local-1");
    let named = ["default/web", "a.yaml, document 1", "b.yaml, document 1"];
    world.proxy().wait_for_line(GUARD, |line| named.iter().all(|name| line.contains(name)))?;
    let to: SocketAddr = cluster_address(2, IpFamily::V4);
    let outcome = world.probe(CLIENT).timeout(SILENCE).tcp(to);
    ensure!(outcome.is_timed_out(), "the second one counts: {outcome}");
    fs::remove_file(dir.path().join("a.yaml"))?;
    fs::write(dir.path().join("c.yaml"), documents(&world, &Svc::new("web", 2), &["local-2"]))?;
    Ok(())
}

/// Editors remove a file before they write it again.
fn away_for_a_while() -> anyhow::Result<()> {
    let (mut world, dir) = begin()?;
    let path = dir.path().join("all.yaml");
    fs::write(&path, documents(&world, &Svc::new("web", 1).node_port(), &["local-1"]))?;
    start(&mut world, &path)?;
    let traffic = Traffic::to_service(&world, 1)?;
    fs::remove_file(&path)?;
    world
        .proxy()
        .wait_for_line(GUARD, |line| line.contains("all.yaml") && line.contains("stays"))?;
    traffic.go_on();
    fs::write(&path, documents(&world, &Svc::new("web", 1).node_port(), &["local-2"]))?;
    answers(&world, 1, "local-2");
    traffic.stop()?;
    Ok(())
}

fn missing_path() -> anyhow::Result<()> {
    let run = crate::flags::run(&["--manifests=/nowhere/at-all"], &[])?;
    run.fails_with("manifests /nowhere/at-all: No such file or directory")
}

/// In a mode that asks for the Node's address: manifests are complete once they are read, so nothing is waited for.
fn without_a_node() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("all.yaml");
    let service = Svc::new("web", 1).node_port();
    fs::write(&path, documents(&world, &service, &["local-1"]))?;
    start(&mut world, &path)?;
    answers(&world, 1, "local-1");
    let lines = world.proxy().lines();
    let unknown = lines.iter().filter(|line| line.contains("the manifests have no Node"));
    ensure!(unknown.count() == 1, "not one line about the Node:\n{}", lines.join("\n"));
    let waited = lines.iter().any(|line| line.contains("within 30 s"));
    ensure!(!waited, "waited for a Node:\n{}", lines.join("\n"));
    // Node ports follow once the address is known.
    let node = document(&node(NODE, 0, "zone-a"));
    fs::write(&path, format!("{}{node}", documents(&world, &service, &["local-1"])))?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    Ok(())
}
