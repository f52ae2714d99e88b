//! libFuzzer on one target, whose name `FUZZ_TARGET` has; started by `cargo xtask fuzz`.
#![no_main]

use std::sync::LazyLock;

use kube_proxy_fuzz::{Target, target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is no target"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.read)(bytes));
