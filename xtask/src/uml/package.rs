//! Where user-mode Linux and its modules are: what is installed, or the package of another release of Debian.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube_proxy_testkit::say;

use crate::apt::Apt;
use crate::host::USER_MODE_LINUX;
use crate::workspace;

/// Name of the package.
const PACKAGE: &str = "user-mode-linux";
/// Where it has its modules.
const MODULES: &str = "usr/lib/uml/modules";

/// A kernel and its modules.
#[derive(Debug)]
pub(crate) struct Package {
    /// The program.
    pub(super) kernel: PathBuf,
    /// A directory for each version.
    pub(super) modules: PathBuf,
}

impl Package {
    /// What is installed.
    pub(super) fn installed() -> Self {
        Self { kernel: USER_MODE_LINUX.into(), modules: Path::new("/").join(MODULES) }
    }

    /// The one of a release of Debian, such as `bullseye`; downloaded and unpacked below the target directory, unless it is there already.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn of_release(release: &str) -> anyhow::Result<Self> {
        let directory = workspace::target_directory()?.join("uml").join(release);
        let root = directory.join("root");
        if !root.exists() {
            say!("Downloading {PACKAGE} of Debian {release} ...");
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
            let apt = Apt::new(&directory, &["amd64"], release)?;
            let unpacked = directory.join("unpacking");
            apt.unpack(PACKAGE, &unpacked)?;
            fs::rename(&unpacked, &root).context("cannot keep the unpacked package")?;
        }
        let kernel = root.join("usr/bin").join(USER_MODE_LINUX);
        Ok(Self { kernel, modules: root.join(MODULES) })
    }
}
