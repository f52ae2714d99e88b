use std::fs;
use std::os::unix::fs::symlink;

use kube_proxy_core::{IpFamily, Tracker, TrackerOptions};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::*;
use crate::manifests::state::{Outcome, report};

fn service(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n"
    )
}

fn state(path: &Path) -> State {
    State::new(path.to_owned(), "n1".to_owned(), Context::default())
}

/// The cluster IPs of all Services, as a tracker sees them.
fn cluster_ips(tracker: &mut Tracker, outcome: Option<Outcome>) -> Vec<String> {
    for event in outcome.into_iter().flat_map(|o| o.events) {
        tracker.apply(event);
    }
    tracker.fold();
    let services = tracker.snapshot().services.iter();
    services
        .map(|(name, entry)| format!("{}={}", name.service.name, entry.port.cluster_ip))
        .collect()
}

fn tracker() -> Tracker {
    Tracker::new(TrackerOptions {
        node_name: "n1".into(),
        ..kube_proxy_core::testing::options(IpFamily::V4)
    })
}

#[test]
fn a_missing_path_is_an_error() {
    let error = ManifestSource::new("/nonexistent/manifests", "n1", Problems::new());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("/nonexistent/manifests"), "{error}");
}

#[test]
fn every_kind_is_listed_even_when_there_is_nothing() {
    let dir = TempDir::new().unwrap();
    let (events, problems) = load(dir.path(), "n1");
    assert!(problems.is_empty());
    let mut tracker = tracker();
    for event in events {
        tracker.apply(event);
    }
    assert!(tracker.is_synced());
}

#[test]
fn a_directory_is_read_with_what_is_below() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    fs::create_dir(at(".hidden")).unwrap();
    fs::write(at("a.yaml"), service("a", "10.0.0.1")).unwrap();
    fs::write(at("sub/deep/b.yml"), service("b", "10.0.0.2")).unwrap();
    fs::write(at("c.json"), r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"clusterIP": "10.0.0.3", "ports": [{"port": 80}]}}"#).unwrap();
    fs::write(at("README.md"), "not: [a manifest").unwrap();
    fs::write(at(".hidden/d.yaml"), service("d", "10.0.0.4")).unwrap();
    fs::write(at(".e.yaml"), service("e", "10.0.0.5")).unwrap();
    symlink(".", at("loop")).unwrap();
    let mut tracker = tracker();
    let outcome = state(dir.path()).reload();
    assert!(outcome.as_ref().unwrap().problems.is_empty());
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"]);
}

#[test]
fn nothing_is_announced_when_nothing_changed() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    let mut state = state(dir.path());
    assert!(state.reload().is_some());
    assert!(state.reload().is_none());
}

#[test]
fn a_broken_document_keeps_what_the_file_said_before() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("all.yaml");
    let mut state = state(dir.path());
    let mut tracker = tracker();
    let two = [service("a", "10.0.0.1"), service("b", "10.0.0.2")].concat();
    fs::write(&file, two).unwrap();
    let outcome = state.reload();
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.1", "b=10.0.0.2"]);

    // One document is broken, the other changed, a third is new.
    let broken =
        [service("b", "10.0.0.22"), "---\na: [\n".to_owned(), service("c", "10.0.0.3")].concat();
    fs::write(&file, broken).unwrap();
    let outcome = state.reload();
    assert_eq!(outcome.as_ref().unwrap().problems.len(), 1);
    let seen = cluster_ips(&mut tracker, outcome);
    assert_eq!(seen, ["a=10.0.0.1", "b=10.0.0.22", "c=10.0.0.3"]);

    // A wrongly typed field is the same.
    let typed = [service("a", "[1]"), service("c", "10.0.0.3")].concat();
    fs::write(&file, typed).unwrap();
    let outcome = state.reload();
    let seen = cluster_ips(&mut tracker, outcome);
    assert_eq!(seen, ["a=10.0.0.1", "b=10.0.0.22", "c=10.0.0.3"]);

    // Not text at all.
    fs::write(&file, b"\xff\xfe\x00").unwrap();
    let outcome = state.reload();
    let problems = outcome.as_ref().unwrap().problems.iter();
    let text: Vec<_> = problems.map(ToString::to_string).collect();
    assert!(text.iter().any(|p| p.contains("all.yaml") && p.contains("UTF-8")), "{text:?}");
    assert_eq!(cluster_ips(&mut tracker, outcome).len(), 3);

    // Repaired: what it does not say is gone now.
    fs::write(&file, service("b", "10.0.0.2")).unwrap();
    let outcome = state.reload();
    assert!(outcome.as_ref().unwrap().problems.is_empty());
    assert_eq!(cluster_ips(&mut tracker, outcome), ["b=10.0.0.2"]);
}

#[test]
fn a_removed_file_takes_its_objects_along_but_a_missing_path_does_not() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("manifests");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    fs::write(root.join("b.yaml"), service("b", "10.0.0.2")).unwrap();
    let mut state = state(&root);
    let mut tracker = tracker();
    cluster_ips(&mut tracker, state.reload());
    fs::remove_file(root.join("a.yaml")).unwrap();
    let outcome = state.reload();
    assert_eq!(cluster_ips(&mut tracker, outcome), ["b=10.0.0.2"]);
    let aside = dir.path().join("aside");
    fs::rename(&root, &aside).unwrap();
    let outcome = state.reload();
    assert_eq!(outcome.as_ref().unwrap().problems.len(), 1);
    assert_eq!(cluster_ips(&mut tracker, outcome), ["b=10.0.0.2"]);
    fs::rename(&aside, &root).unwrap();
    let outcome = state.reload();
    assert!(outcome.as_ref().unwrap().problems.is_empty());
}

/// The result of something that must not wait for the other end of a FIFO.
fn promptly<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(what()));
    receiver.recv_timeout(Duration::from_mins(1)).expect("it does not block")
}

#[test]
fn only_regular_files_are_read() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a.yaml"), service("a", "10.0.0.1")).unwrap();
    mkfifo(&at("b.yaml"), Mode::S_IRWXU).unwrap();
    symlink("b.yaml", at("c.yaml")).unwrap();
    symlink("/dev/zero", at("d.yaml")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("e.yaml")).unwrap();
    fs::write(at("real"), service("f", "10.0.0.6")).unwrap();
    symlink("real", at("f.yaml")).unwrap();
    // A file without the name of a manifest is ignored.
    mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
    let mut state = state(dir.path());
    let (mut state, outcome) = promptly(move || {
        let outcome = state.reload();
        (state, outcome)
    });
    let problems = outcome.as_ref().unwrap().problems.iter();
    let text: Vec<_> = problems.map(ToString::to_string).collect();
    let expected = [("b", "FIFO"), ("c", "FIFO"), ("d", "device"), ("e", "socket")];
    assert_eq!(text.len(), expected.len(), "{text:#?}");
    for (line, (name, what)) in text.iter().zip(expected) {
        let reason = format!("cannot be read: a {what}, not a regular file");
        assert!(line.contains(&format!("{name}.yaml")) && line.contains(&reason), "{line}");
    }
    let mut tracker = tracker();
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.1", "f=10.0.0.6"]);
    assert!(state.reload().is_none(), "the same problems are no news");
    fs::remove_file(at("b.yaml")).unwrap();
    fs::remove_file(at("c.yaml")).unwrap();
    fs::write(at("b.yaml"), service("b", "10.0.0.2")).unwrap();
    let outcome = state.reload();
    assert_eq!(outcome.as_ref().unwrap().problems.len(), 2);
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.1", "b=10.0.0.2", "f=10.0.0.6"]);
}

#[test]
fn a_file_that_is_no_text_keeps_what_it_said_and_is_not_read_again() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, service("a", "10.0.0.1")).unwrap();
    let mut state = state(dir.path());
    let mut tracker = tracker();
    cluster_ips(&mut tracker, state.reload());
    fs::write(&file, b"\xff\xfek\0i\0").unwrap();
    let outcome = state.reload();
    let problems: Vec<_> = outcome.iter().flat_map(|o| &o.problems).collect();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].reason.contains("not UTF-8 text, from byte 0 on"), "{problems:?}");
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.1"]);
    assert!(state.reload().is_none());
    fs::write(&file, service("a", "10.0.0.2")).unwrap();
    let outcome = state.reload();
    assert!(outcome.as_ref().unwrap().problems.is_empty());
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.2"]);
}

/// The link may have led to a directory, like one that a synchroniser of files swaps.
#[test]
fn a_dangling_link_keeps_what_was_below_it() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("all")).unwrap();
    fs::create_dir_all(at("one")).unwrap();
    fs::write(at("one/a.yaml"), service("a", "10.0.0.1")).unwrap();
    symlink("../one", at("all/current")).unwrap();
    let mut state = state(&at("all"));
    let mut tracker = tracker();
    assert_eq!(cluster_ips(&mut tracker, state.reload()), ["a=10.0.0.1"]);
    fs::rename(at("one"), at("two")).unwrap();
    let outcome = state.reload();
    assert_eq!(outcome.as_ref().unwrap().problems.len(), 1);
    assert_eq!(cluster_ips(&mut tracker, outcome), ["a=10.0.0.1"]);
    fs::rename(at("two"), at("one")).unwrap();
    let outcome = state.reload();
    assert!(outcome.as_ref().unwrap().problems.is_empty());
    fs::remove_file(at("all/current")).unwrap();
    let outcome = state.reload();
    assert_eq!(cluster_ips(&mut tracker, outcome), Vec::<String>::new());
}

#[test]
fn directories_that_are_nested_too_deep_are_named() {
    let dir = TempDir::new().unwrap();
    let deep = dir.path().join(["d"; 40].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    let (_, problems) = load(dir.path(), "n1");
    assert_eq!(problems.len(), 1);
    let line = problems[0].to_string();
    assert!(line.contains("d/d: cannot be read: nested deeper than 32 directories"), "{line}");
}

#[test]
fn names_in_manifests_neither_break_a_line_nor_fill_the_log() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a\n2026 WARN forged.yaml");
    let long = format!("b\\nWARN forged {}", "y".repeat(1 << 20));
    fs::write(&file, service(&format!("\"{long}\""), "\"10.9\\n6\"")).unwrap();
    let (_, problems) = load(dir.path(), "n1");
    assert_eq!(problems.len(), 1);
    let line = problems[0].to_string();
    assert!(line.len() < 2_000 && !line.contains('\n'), "{} bytes: {line:.2000}", line.len());
    for part in
        ["Service default/b\\nWARN forged yy", "y...y", "a\\n2026 WARN forged.yaml, document 1"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_fifo_in_place_of_the_manifests_is_an_error() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("all.yaml");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let path = fifo.clone();
    let source = promptly(move || ManifestSource::new(path, "n1", Problems::new()));
    let error = source.err().unwrap().to_string();
    assert!(error.contains("all.yaml: a FIFO, not a regular file"), "{error}");
    let path = fifo.clone();
    let (_, problems) = promptly(move || load(&path, "n1"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    // It may take the place of a file between looking at it and opening it.
    let error = promptly(move || files::read(&fifo)).unwrap_err();
    assert!(error.to_string().contains("a FIFO"), "{error}");
}

#[test]
fn of_two_objects_with_one_name_the_first_counts() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), service("web", "10.0.0.1")).unwrap();
    let twice = [service("x", "10.0.0.2"), service("web", "10.0.0.3")].concat();
    fs::write(dir.path().join("b.yaml"), twice).unwrap();
    let outcome = state(dir.path()).reload();
    let problems = &outcome.as_ref().unwrap().problems;
    assert_eq!(problems.len(), 1);
    let problem = problems[0].to_string();
    for part in ["Service default/web", "a.yaml, document 1", "b.yaml, document 2"] {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(cluster_ips(&mut tracker(), outcome), ["web=10.0.0.1", "x=10.0.0.2"]);
}

#[test]
fn the_register_follows() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    let register = Problems::new();
    let mut state = state(dir.path());
    fs::write(&file, [service("a", "10.0.0.300"), "---\n[".to_owned()].concat()).unwrap();
    report(&state.reload().unwrap(), &register);
    let counts = register.counts();
    assert_eq!((counts["Service"].current, counts["document"].current), (1, 1));
    fs::write(&file, service("a", "10.0.0.3")).unwrap();
    report(&state.reload().unwrap(), &register);
    assert!(register.current().is_empty());
    let counts = register.counts();
    assert_eq!((counts["Service"].total, counts["document"].total), (1, 1));
}

/// The API server gives a port without a name the empty name, which the only port of a Service has.
#[test]
fn a_port_without_a_name_is_that_of_a_service_with_one_port() {
    let dir = TempDir::new().unwrap();
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}\n\
         addressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.2]}]\n";
    fs::write(dir.path().join("a.yaml"), service("a", "10.0.0.1") + slice).unwrap();
    let (events, problems) = load(dir.path(), "n1");
    assert!(problems.is_empty());
    let mut tracker = tracker();
    for event in events {
        tracker.apply(event);
    }
    tracker.fold();
    let (_, entry) = tracker.snapshot().services.iter().next().unwrap();
    let endpoints: Vec<_> =
        entry.endpoints.iter().map(|e| (e.ip.to_string(), e.port.get())).collect();
    assert_eq!(endpoints, [("10.1.0.2".to_owned(), 8080)]);
}
