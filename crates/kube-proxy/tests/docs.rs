//! Flags that documents mention are flags of this binary.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use kube_proxy_config::flags::Flags;

/// Flags of other programs that documents mention on their own, not after the program's name.
const OF_OTHERS: [&str; 29] = [
    "twice",
    "from-debian",
    "target",
    "seconds",
    "map-set",
    "mode",
    "base",
    "cpu",
    "feature-gate",
    "image",
    "node-image",
    "pod-image",
    "rollback",
    "or-mark",
    "set-xmark",
    "noflush",
    "dst-type",
    "random-fully",
    "local",
    "context",
    "only",
    "list",
    "apiserver",
    "peer",
    "sizes",
    "filter",
    "kernel",
    "suite",
    "release",
];

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    all.push(root.join("README.md"));
    all
}

/// Flags that stand for themselves between backticks, and those after the name of this program.
fn mentioned(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let spans = line.split('`').skip(1).step_by(2).filter(|span| span.starts_with("--"));
        let command = line.trim_start_matches("$ ");
        let commands = command.strip_prefix("kube-proxy ").into_iter();
        let inline = line.split('`').skip(1).step_by(2);
        let inline = inline.filter_map(|span| span.strip_prefix("kube-proxy "));
        for words in spans.chain(commands).chain(inline) {
            let flags = words.split_whitespace().filter_map(|word| word.strip_prefix("--"));
            found.extend(flags.map(|flag| {
                let end = flag.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                flag[..end.unwrap_or(flag.len())].to_owned()
            }));
        }
    }
    found.remove("");
    found
}

#[test]
fn flags_in_documents_exist() {
    let command = Flags::command();
    let mut known: BTreeSet<&str> =
        command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let commands = kube_proxy::commands::command_line();
    let of_commands = commands.get_subcommands().flat_map(clap::Command::get_arguments);
    known.extend(of_commands.filter_map(clap::Arg::get_long));
    let mut seen = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for flag in mentioned(&text) {
            let exists = known.contains(flag.as_str()) || OF_OTHERS.contains(&flag.as_str());
            assert!(exists, "{}: there is no flag --{flag}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} flags were found");
}

#[test]
fn the_page_of_commands_has_each() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    let page = std::fs::read_to_string(page).unwrap();
    for command in kube_proxy::commands::command_line().get_subcommands() {
        let row = format!("| `{}", command.get_name());
        assert!(page.contains(&row), "docs/commands.md has no row {row}");
    }
}

#[test]
fn flags_are_found_where_documents_put_them() {
    let text = "Use `--proxy-mode=x` or `kube-proxy --cleanup --v=2`.\n$ kube-proxy --config=/x --no-such\n";
    let wanted = ["cleanup", "config", "no-such", "proxy-mode", "v"];
    assert_eq!(mentioned(text), wanted.map(str::to_owned).into_iter().collect());
}
