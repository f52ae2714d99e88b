//! For which machines a release is, and what of that can be made here.

use std::env::consts::ARCH;
use std::path::Path;

use anyhow::Context as _;

use super::compiler::Compiler;
use super::debian;
use crate::host;
use crate::image::OBJCOPY;

/// A kind of machine and a C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    /// Its name for the compiler.
    pub(super) triple: &'static str,
    /// The name of the processor in images, and for Debian.
    pub(super) architecture: &'static str,
    /// The name of the processor for compilers.
    processor: &'static str,
    /// What makes its programs on a machine of this kind.
    here: Tools,
    /// What makes them on others.
    elsewhere: Tools,
    /// The emulator of its programs.
    emulator: &'static str,
}

/// What makes a program besides the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tools {
    /// The program that links, and compiles C.
    linker: &'static str,
    /// The program that takes line tables out.
    objcopy: &'static str,
    /// Programs and files that have to be there, and the Debian packages that hold them.
    needed: &'static [(&'static str, &'static str)],
}

/// The package with emulators of programs.
const EMULATORS: &str = "qemu-user";

const GNU: Tools = Tools { linker: "cc", objcopy: OBJCOPY, needed: &[("cc", "gcc")] };
const MUSL: Tools =
    Tools { linker: "musl-gcc", objcopy: OBJCOPY, needed: &[("musl-gcc", "musl-tools")] };

/// All of them. The programs for all are static: glibc with `crt-static`, musl as it always is.
pub(super) const ALL: [Platform; 4] = [
    Platform {
        triple: "x86_64-unknown-linux-gnu",
        architecture: "amd64",
        processor: "x86_64",
        here: GNU,
        elsewhere: Tools {
            linker: "x86_64-linux-gnu-gcc",
            objcopy: "x86_64-linux-gnu-objcopy",
            needed: &[
                ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
                ("/usr/x86_64-linux-gnu/lib/libc.a", "libc6-dev-amd64-cross"),
            ],
        },
        emulator: "qemu-x86_64",
    },
    Platform {
        triple: "x86_64-unknown-linux-musl",
        architecture: "amd64",
        processor: "x86_64",
        here: MUSL,
        elsewhere: Tools {
            linker: "x86_64-linux-musl-gcc",
            objcopy: "x86_64-linux-gnu-objcopy",
            needed: &[("x86_64-linux-musl-gcc", "musl-dev:amd64")],
        },
        emulator: "qemu-x86_64",
    },
    Platform {
        triple: "aarch64-unknown-linux-gnu",
        architecture: "arm64",
        processor: "aarch64",
        here: GNU,
        elsewhere: Tools {
            linker: "aarch64-linux-gnu-gcc",
            objcopy: "aarch64-linux-gnu-objcopy",
            needed: &[
                ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
                ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
            ],
        },
        emulator: "qemu-aarch64",
    },
    Platform {
        triple: "aarch64-unknown-linux-musl",
        architecture: "arm64",
        processor: "aarch64",
        here: MUSL,
        elsewhere: Tools {
            linker: "aarch64-linux-musl-gcc",
            objcopy: "aarch64-linux-gnu-objcopy",
            needed: &[("aarch64-linux-musl-gcc", "musl-dev:arm64")],
        },
        emulator: "qemu-aarch64",
    },
];

impl Platform {
    /// The one with this name.
    pub(super) fn named(triple: &str) -> anyhow::Result<&'static Self> {
        ALL.iter().find(|platform| platform.triple == triple).with_context(|| {
            let names: Vec<_> = ALL.iter().map(|platform| platform.triple).collect();
            format!("there are no releases for {triple:?}, only for {}", names.join(", "))
        })
    }

    pub(super) fn linker(&self) -> &'static str {
        self.tools().linker
    }

    pub(super) fn objcopy(&self) -> &'static str {
        self.tools().objcopy
    }

    /// What runs its programs, where this machine does not.
    pub(super) fn emulator(&self) -> Option<&'static str> {
        (!self.is_own_machine()).then_some(self.emulator)
    }

    /// Programs and files that have to be there, and the Debian packages that hold them.
    pub(super) fn needed(&self) -> Vec<(&'static str, &'static str)> {
        let emulator = self.emulator().map(|program| (program, EMULATORS));
        self.tools().needed.iter().copied().chain(emulator).collect()
    }

    /// A compiler with its standard library, if there is one; from Debian's packages, below the target directory, if that is allowed and
    /// they have one.
    pub(super) fn compiler(&self, from_debian: Option<&Path>) -> anyhow::Result<Option<Compiler>> {
        if Compiler::Usual.is_for(self.triple)? {
            return Ok(Some(Compiler::Usual));
        }
        match from_debian {
            Some(target) if !self.is_musl() => {
                Ok(Some(Compiler::Other(debian::compiler(target, self.architecture)?)))
            }
            _ => Ok(None),
        }
    }

    /// What is missing to build for it, and the commands that get it.
    pub(super) fn missing(&self, has_compiler: bool) -> Option<String> {
        let (programs, packages) = host::missing(&self.needed());
        let mut missing = Vec::new();
        let mut commands = Vec::new();
        if !has_compiler {
            missing.push("the compiler has no standard library for it".to_owned());
            commands.push(format!("rustup target add {}", self.triple));
        }
        if !packages.is_empty() {
            missing.push(format!("{} not installed", programs.join(", ")));
            if packages.iter().any(|package| package.contains(':')) {
                commands.push(format!("dpkg --add-architecture {}", self.architecture));
            }
            commands.push("apt-get update".to_owned());
            commands.push(format!("apt-get install {}", packages.join(" ")));
        }
        (!missing.is_empty()).then(|| format!("{}: {}", missing.join(", "), commands.join(" && ")))
    }

    /// Whether an image for it has the same C library as the system that the image's other programs come from.
    pub(super) fn has_image(&self) -> bool {
        !self.is_musl()
    }

    /// Whether this machine runs its programs.
    pub(super) fn is_own_machine(&self) -> bool {
        self.processor == ARCH
    }

    fn is_musl(&self) -> bool {
        self.triple.ends_with("-musl")
    }

    fn tools(&self) -> &Tools {
        if self.is_own_machine() { &self.here } else { &self.elsewhere }
    }
}
