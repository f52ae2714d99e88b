//! For which machines a release is, and what of that can be made here.

use std::path::Path;

use anyhow::Context as _;

use crate::image::OBJCOPY;
use crate::{host, workspace};

/// A kind of machine and a C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    /// Its name for the compiler.
    pub(super) triple: &'static str,
    /// The name of the processor in images.
    pub(super) architecture: &'static str,
    /// The program that links, and compiles C.
    pub(super) linker: &'static str,
    /// The program that takes line tables out.
    pub(super) objcopy: &'static str,
    /// The Debian package with the linker, and with it those of the other.
    package: &'static str,
}

/// All of them. The programs for all are static: glibc with `crt-static`, musl as it always is.
pub(super) const ALL: [Platform; 4] = [
    Platform {
        triple: "x86_64-unknown-linux-gnu",
        architecture: "amd64",
        linker: "cc",
        objcopy: OBJCOPY,
        package: "gcc",
    },
    Platform {
        triple: "x86_64-unknown-linux-musl",
        architecture: "amd64",
        linker: "musl-gcc",
        objcopy: OBJCOPY,
        package: "musl-tools",
    },
    Platform {
        triple: "aarch64-unknown-linux-gnu",
        architecture: "arm64",
        linker: "aarch64-linux-gnu-gcc",
        objcopy: "aarch64-linux-gnu-objcopy",
        package: "gcc-aarch64-linux-gnu",
    },
    Platform {
        triple: "aarch64-unknown-linux-musl",
        architecture: "arm64",
        linker: "aarch64-linux-musl-gcc",
        objcopy: "aarch64-linux-musl-objcopy",
        package: "a cross toolchain for musl",
    },
];

impl Platform {
    /// What is missing to build for it, and how to get that.
    pub(super) fn missing(&self) -> anyhow::Result<Option<String>> {
        if !has_standard_library(&target_libraries(self.triple)?) {
            return Ok(Some(format!(
                "the compiler has no standard library for it: rustup target add {}",
                self.triple
            )));
        }
        if !host::is_on_path(self.linker) {
            return Ok(Some(format!(
                "{} is not installed: apt-get install {}",
                self.linker, self.package
            )));
        }
        Ok(None)
    }

    /// Whether this machine runs its programs and is what the image's other programs are taken from.
    pub(super) fn is_host(&self) -> anyhow::Result<bool> {
        Ok(self.triple == workspace::host_triple()?)
    }
}

/// Where the compiler has its libraries for a target, whether there are any or not.
fn target_libraries(triple: &str) -> anyhow::Result<String> {
    let mut command = workspace::rustc();
    command.args(["--print", "target-libdir", "--target", triple]);
    let output = command.output().context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn has_standard_library(directory: &str) -> bool {
    let entries = std::fs::read_dir(Path::new(directory)).into_iter().flatten();
    entries.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libstd-") && entry.path().extension().is_some_and(|end| end == "rlib")
    })
}
