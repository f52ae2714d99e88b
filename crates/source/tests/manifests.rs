//! Manifests are followed live, however they are changed.

#![expect(clippy::unwrap_used, reason = "tests panic, so that they say where")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use kube_proxy_core::{Event, IpFamily, Tracker, TrackerOptions};
use kube_proxy_source::manifests::FollowTiming;
use kube_proxy_source::{ManifestSource, Problems};
use tempfile::TempDir;

/// No test needs so long; it only ends those that would hang.
const HANG: Duration = Duration::from_mins(5);

/// A source that runs on a thread of its own, and a tracker that receives its events.
struct Running {
    events: mpsc::Receiver<Event>,
    tracker: Tracker,
    problems: Problems,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// The poll is so slow that only notices of the kernel can explain that a change is seen.
    fn start(path: &Path) -> Self {
        Self::with(path, HANG * 10)
    }

    fn with(path: &Path, poll: Duration) -> Self {
        let problems = Problems::new();
        let timing = FollowTiming { poll, ..FollowTiming::default() };
        let source = ManifestSource::new(path, "n1", problems.clone()).unwrap();
        let source = source.with_timing(timing);
        let (sender, events) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let sink = Arc::new(move |event| drop(sender.send(event)));
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = source.run(sink) => {}
                    _ = stopped => {}
                }
            });
        });
        let options = TrackerOptions {
            node_name: "n1".into(),
            ..kube_proxy_core::testing::options(IpFamily::V4)
        };
        Self {
            events,
            tracker: Tracker::new(options),
            problems,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Waits until the Services are these.
    #[track_caller]
    fn expect(&mut self, services: &[&str]) {
        loop {
            self.tracker.fold();
            let entries = self.tracker.snapshot().services.iter();
            let now: Vec<_> = entries
                .map(|(name, entry)| format!("{}={}", name.service.name, entry.port.cluster_ip))
                .collect();
            if now == services && self.tracker.is_synced() {
                return;
            }
            match self.events.recv_timeout(HANG) {
                Ok(event) => self.tracker.apply(event),
                Err(error) => panic!("it stays at {now:?}: {error}"),
            };
        }
    }

    /// Waits until this many problems are known.
    #[track_caller]
    fn expect_problems(&self, count: usize) {
        let deadline = std::time::Instant::now() + HANG;
        while self.problems.current().len() != count {
            assert!(std::time::Instant::now() < deadline, "{:?}", self.problems.current());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n"
    )
}

fn temp() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

#[test]
fn files_that_come_change_and_go() {
    let (_dir, path) = temp();
    fs::write(path.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    let mut source = Running::start(&path);
    source.expect(&["a=10.0.0.1"]);
    fs::write(path.join("a.yaml"), service("a", "10.0.0.2")).unwrap();
    source.expect(&["a=10.0.0.2"]);
    fs::create_dir(path.join("sub")).unwrap();
    fs::write(path.join("sub/b.yaml"), service("b", "10.0.0.3")).unwrap();
    source.expect(&["a=10.0.0.2", "b=10.0.0.3"]);
    fs::write(path.join("sub/b.yaml"), service("b", "10.0.0.4")).unwrap();
    source.expect(&["a=10.0.0.2", "b=10.0.0.4"]);
    fs::remove_file(path.join("a.yaml")).unwrap();
    source.expect(&["b=10.0.0.4"]);
    fs::remove_dir_all(path.join("sub")).unwrap();
    source.expect(&[]);
}

#[test]
fn a_single_file_that_an_editor_replaces() {
    let (_dir, path) = temp();
    let file = path.join("services");
    fs::write(&file, service("a", "10.0.0.1")).unwrap();
    let mut source = Running::start(&file);
    source.expect(&["a=10.0.0.1"]);
    for i in 2..5 {
        let ip = format!("10.0.0.{i}");
        fs::write(path.join("services~"), service("a", &ip)).unwrap();
        fs::rename(path.join("services~"), &file).unwrap();
        source.expect(&[&format!("a={ip}")]);
    }
}

#[test]
fn a_config_map_mount_that_is_swapped() {
    let (_dir, path) = temp();
    let version = |name: &str, ip: &str| {
        fs::create_dir(path.join(name)).unwrap();
        fs::write(path.join(name).join("svc.yaml"), service("a", ip)).unwrap();
    };
    version("..2024_1", "10.0.0.1");
    symlink("..2024_1", path.join("..data")).unwrap();
    symlink("..data/svc.yaml", path.join("svc.yaml")).unwrap();
    let mut directory = Running::start(&path);
    let mut file = Running::start(&path.join("svc.yaml"));
    directory.expect(&["a=10.0.0.1"]);
    file.expect(&["a=10.0.0.1"]);
    for i in 2..4 {
        let name = format!("..2024_{i}");
        let ip = format!("10.0.0.{i}");
        version(&name, &ip);
        symlink(&name, path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
        fs::remove_dir_all(path.join(format!("..2024_{}", i - 1))).unwrap();
        directory.expect(&[&format!("a={ip}")]);
        file.expect(&[&format!("a={ip}")]);
    }
}

#[test]
fn a_broken_change_keeps_the_last_good_state_until_it_is_repaired() {
    let (_dir, path) = temp();
    let file = path.join("a.yaml");
    fs::write(&file, service("a", "10.0.0.1")).unwrap();
    let mut source = Running::start(&path);
    source.expect(&["a=10.0.0.1"]);
    fs::write(&file, "apiVersion: v1\nkind: Service\nmetadata:\n\tname: a\n").unwrap();
    source.expect_problems(1);
    source.expect(&["a=10.0.0.1"]);
    fs::write(&file, service("a", "10.0.0.2")).unwrap();
    source.expect(&["a=10.0.0.2"]);
    source.expect_problems(0);
}

#[test]
fn a_directory_that_is_replaced_as_a_whole() {
    let (_dir, path) = temp();
    let root = path.join("manifests");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    let mut source = Running::start(&root);
    source.expect(&["a=10.0.0.1"]);
    fs::rename(&root, path.join("old")).unwrap();
    source.expect_problems(1);
    source.expect(&["a=10.0.0.1"]);
    fs::create_dir(path.join("new")).unwrap();
    fs::write(path.join("new/a.yaml"), service("a", "10.0.0.2")).unwrap();
    fs::rename(path.join("new"), &root).unwrap();
    source.expect(&["a=10.0.0.2"]);
    // Changes in the new directory are noticed too.
    fs::write(root.join("a.yaml"), service("a", "10.0.0.3")).unwrap();
    source.expect(&["a=10.0.0.3"]);
}

#[test]
fn without_notices_a_poll_finds_changes() {
    let (_dir, path) = temp();
    // The file is behind a link whose further target nothing watches: two hops away.
    fs::create_dir(path.join("m")).unwrap();
    for name in ["one", "two"] {
        fs::create_dir_all(path.join("far").join(name)).unwrap();
    }
    fs::write(path.join("far/one/a.yaml"), service("a", "10.0.0.1")).unwrap();
    fs::write(path.join("far/two/a.yaml"), service("a", "10.0.0.2")).unwrap();
    symlink("one", path.join("far/now")).unwrap();
    symlink(path.join("far/now/a.yaml"), path.join("m/a.yaml")).unwrap();
    let mut source = Running::with(&path.join("m"), Duration::from_millis(50));
    source.expect(&["a=10.0.0.1"]);
    symlink("two", path.join("far/next")).unwrap();
    fs::rename(path.join("far/next"), path.join("far/now")).unwrap();
    source.expect(&["a=10.0.0.2"]);
}
