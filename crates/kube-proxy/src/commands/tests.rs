use std::ffi::OsString;

use clap::CommandFactory as _;

use super::{CommandLine, run};

fn line(text: &str) -> Vec<OsString> {
    std::iter::once("kube-proxy").chain(text.split_whitespace()).map(Into::into).collect()
}

#[test]
fn what_names_no_command_first_is_the_proxy() {
    for text in ["", "--proxy-mode=nftables", "nonsense", "--v=2 services"] {
        assert!(run(&line(text)).is_none(), "{text}");
    }
}

#[test]
fn commands_are_declared_as_clap_wants_them() {
    CommandLine::command().debug_assert();
}

#[test]
fn help_fits_a_terminal() {
    let mut all = CommandLine::command();
    all.build();
    for command in all.get_subcommands_mut() {
        let help = command.render_long_help().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
