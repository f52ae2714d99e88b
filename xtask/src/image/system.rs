//! The system that the programs of an image are taken from: this one, or one that was unpacked into a directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// What the names of extensions begin with that iptables and ip6tables load. Others are for arptables and ebtables.
const EXTENSIONS: [&str; 3] = ["libxt_", "libipt_", "libip6t_"];

/// Where programs and libraries are found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum System<'a> {
    /// The system on which this runs.
    Here,
    /// Unpacked packages, of any kind of machine: their programs need not run here.
    Unpacked(&'a Path),
}

impl System<'_> {
    /// A path of the system, as it is found here.
    fn place(self, path: &str) -> PathBuf {
        match self {
            Self::Here => PathBuf::from(path),
            Self::Unpacked(root) => root.join(path.trim_start_matches('/')),
        }
    }

    /// The path that something has in the system, without the slash at its beginning.
    pub(super) fn inside(self, path: &Path) -> &Path {
        match self {
            Self::Here => path.strip_prefix("/").unwrap_or(path),
            Self::Unpacked(root) => path.strip_prefix(root).unwrap_or(path),
        }
    }

    pub(super) fn find(self, program: &str) -> anyhow::Result<PathBuf> {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .into_iter()
            .map(|directory| self.place(directory).join(program))
            .find(|path| path.is_file())
            .with_context(|| format!("{program} is not installed: apt-get install iptables kmod"))
    }

    /// The extensions of iptables: one library for each match and target.
    pub(super) fn extensions(self) -> anyhow::Result<Vec<PathBuf>> {
        let linked = self.libraries_of(&self.find("xtables-nft-multi")?)?;
        let beside = linked.iter().find(|path| path.to_string_lossy().contains("libxtables"));
        let directory = beside.and_then(|path| path.parent()).context("libxtables has a place")?;
        // The library is found through /lib, its extensions below /usr/lib.
        let inside = self.inside(directory);
        let inside = inside.strip_prefix("usr").unwrap_or(inside).join("xtables");
        let directory = self.place("/usr").join(inside);
        let directory = if directory.is_dir() { directory } else { self.place("/usr/lib/xtables") };
        let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        let mut all = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        all.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".so") && EXTENSIONS.iter().any(|start| name.starts_with(start))
        });
        ensure!(!all.is_empty(), "{} holds no extensions", directory.display());
        Ok(all)
    }

    /// The libraries that a program or a library loads, and the dynamic linker.
    pub(super) fn libraries_of(self, path: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        match self {
            Self::Here => {
                let output =
                    Command::new("ldd").arg(path).output().context("cannot start `ldd`")?;
                found = parse_libraries(&String::from_utf8_lossy(&output.stdout));
            }
            Self::Unpacked(_) => self.follow(path, &mut found)?,
        }
        Ok(found)
    }

    /// Adds what a file names, and what that names.
    fn follow(self, path: &Path, found: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
        let mut readelf = Command::new("readelf");
        readelf.args(["--wide", "--dynamic", "--program-headers"]).arg(path);
        let output = readelf.output().context("cannot start `readelf`, of the package binutils")?;
        ensure!(output.status.success(), "readelf cannot read {}", path.display());
        let (interpreter, names) = parse_needs(&String::from_utf8_lossy(&output.stdout));
        found.extend(interpreter.map(|path| self.place(&path)));
        for name in names {
            let library = self.library(&name).with_context(|| {
                format!("{} needs {name}, which no package of the image has", path.display())
            })?;
            let linker = found.iter().any(|known| known.file_name() == library.file_name());
            if !linker && found.insert(library.clone()) {
                self.follow(&library, found)?;
            }
        }
        Ok(())
    }

    /// Looks for a library where the dynamic linker of Debian does.
    fn library(self, name: &str) -> Option<PathBuf> {
        ["/usr/lib", "/lib"].iter().find_map(|directory| {
            let entries = fs::read_dir(self.place(directory)).ok()?;
            let directories = entries.filter_map(|entry| Some(entry.ok()?.path()));
            directories.map(|directory| directory.join(name)).find(|path| path.is_file())
        })
    }
}

/// Reads lines like `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
pub(super) fn parse_libraries(text: &str) -> BTreeSet<PathBuf> {
    let words =
        text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

/// The dynamic linker and the libraries that `readelf` lists, the latter by name.
pub(super) fn parse_needs(text: &str) -> (Option<String>, Vec<String>) {
    let after = |mark: &'static str| {
        text.lines().filter_map(move |line| {
            let (_, rest) = line.split_once(mark)?;
            rest.split_once(']').map(|(name, _)| name.to_owned())
        })
    };
    (after("program interpreter: ").next(), after("Shared library: [").collect())
}
