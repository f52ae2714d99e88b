//! Programs that write down how they were called, and answer as the cluster would.

use std::path::PathBuf;

use super::*;

/// What the fake cluster runs at first.
pub(super) const RELEASED: &str = "registry.k8s.io/kube-proxy:v1.36.0";

/// A directory with the programs, which keep their state there.
pub(super) struct Fakes(tempfile::TempDir);

impl Fakes {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for program in ["docker", "kind", "kubectl", "curl", "nslookup"] {
            let path = directory.path().join(program);
            fs::write(&path, include_str!("fakes.sh")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(directory.path().join("failing"), "").unwrap();
        Self(directory)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn tools(&self) -> Tools {
        let path = [self.0.path(), Path::new("/usr/bin"), Path::new("/bin")];
        Tools { path: std::env::join_paths(path).unwrap() }
    }

    /// From now on, calls with this text in their arguments fail.
    pub(super) fn fail(&self, text: &str) {
        let known = fs::read_to_string(self.file("failing")).unwrap();
        fs::write(self.file("failing"), format!("{known}{text}\n")).unwrap();
    }

    pub(super) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
