//! What the tests of this crate share: loading from flags.

use kube_proxy_config::{Command, Loaded, Mode, ModeChoice, Start, load};

/// What `auto` is in tests.
pub(crate) fn choose_mode() -> ModeChoice {
    ModeChoice { mode: Mode::Nftables, reason: "for the test".to_owned() }
}

/// Loads from flags alone, split at blanks.
pub(crate) fn flags(flags: &str) -> Loaded {
    let words = std::iter::once("kube-proxy").chain(flags.split_whitespace());
    let start = Start {
        args: words.map(Into::into).collect(),
        variable: &|_| None,
        host_name: &|| Ok("Node-1.Example".to_owned()),
        choose_mode: &choose_mode,
    };
    match load(&start) {
        Ok(Command::Configured(loaded)) => *loaded,
        other => panic!("{flags}: {other:?}"),
    }
}
