//! What the tests of this module share: loading from pieces of text.

use super::error::ConfigError;
use super::load::{Command, Loaded, Start, load};
use super::mode::{Mode, ModeChoice};

/// The first lines of every configuration file.
pub(super) const HEAD: &str =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// What a process may be started with.
#[derive(Clone, Debug, Default)]
pub(super) struct Given<'a> {
    /// The command line, split at blanks.
    pub(super) flags: &'a str,
    /// Environment variables.
    pub(super) variables: &'a [(&'a str, &'a str)],
    /// What follows [`HEAD`] in the file of `--config`.
    pub(super) file: Option<&'a str>,
}

impl Given<'_> {
    pub(super) fn load(&self) -> Result<Command, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let mut args = vec!["kube-proxy".into()];
        if let Some(body) = self.file {
            let path = directory.path().join("config.conf");
            std::fs::write(&path, format!("{HEAD}{body}")).unwrap();
            args.push(format!("--config={}", path.display()).into());
        }
        args.extend(self.flags.split_whitespace().map(Into::into));
        let lookup = |name: &str| {
            let found = self.variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let start = Start {
            args,
            variable: &lookup,
            host_name: &|| Ok("Node-1.Example".to_owned()),
            choose_mode: &choose_mode,
        };
        load(&start)
    }

    pub(super) fn loaded(&self) -> Loaded {
        match self.load() {
            Ok(Command::Configured(loaded)) => *loaded,
            other => panic!("{self:?}: {other:?}"),
        }
    }

    /// The error, with the directory of the file left out.
    pub(super) fn error(&self) -> String {
        match self.load() {
            Err(error) => without_directory(&error.to_string()),
            Ok(command) => panic!("{self:?}: {command:?}"),
        }
    }
}

/// What `auto` is in tests.
pub(super) fn choose_mode() -> ModeChoice {
    ModeChoice { mode: Mode::Nftables, reason: "for the test".to_owned() }
}

/// Cuts the directory off every mention of the file; it has a name of its own in the one for temporary files, which may have blanks.
pub(super) fn without_directory(text: &str) -> String {
    let start = std::env::temp_dir().join("").to_string_lossy().into_owned();
    let mut parts = text.split(start.as_str());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("FILE");
        out.push_str(part.split_once("/config.conf").map_or(part, |(_, rest)| rest));
    }
    out
}

/// Loads from flags alone.
pub(super) fn flags(flags: &str) -> Loaded {
    Given { flags, ..Given::default() }.loaded()
}

/// Loads from a file alone.
pub(super) fn file(body: &str) -> Loaded {
    Given { file: Some(body), ..Given::default() }.loaded()
}
