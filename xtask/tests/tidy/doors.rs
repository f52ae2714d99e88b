//! What documents point at is there: files, sections, commands, packages and tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{self, File};
use crate::packages::{list, metadata};

/// Directories at the root; a quoted path that begins with one is a path of the repository.
const DIRECTORIES: [&str; 8] =
    ["crates/", "deploy/", "docs/", "fuzz/", "tests/", "xtask/", ".github/", ".ci/"];

/// Everything in Markdown, and what a forge runs or shows.
fn documents() -> Vec<File> {
    let ends = |file: &File, ends: &[&str]| ends.iter().any(|end| file.path.ends_with(end));
    let all = files::all().into_iter();
    let found: Vec<_> =
        all.filter(|file| ends(file, &[".md"]) || file.path.starts_with(".github/")).collect();
    for name in ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md"] {
        assert!(found.iter().any(|file| file.path == name), "there is no {name}");
    }
    found
}

/// The text outside of blocks of code, line by line.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// Targets of links: what stands in parentheses after brackets, outside of quoted code.
fn links(text: &str) -> Vec<&str> {
    let plain = prose(text).flat_map(|line| line.split('`').step_by(2));
    // A link whose text is quoted code is cut between its brackets: its target follows all the same.
    let targets = plain.flat_map(|part| part.split("](").skip(1));
    targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The names by which sections are linked to.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').strip_prefix(' ').unwrap_or_default();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in documents() {
        for link in links(&file.text).into_iter().filter(|link| !link.starts_with("http")) {
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let own = Path::new(&file.path);
            let target = match path {
                "" => own.to_path_buf(),
                path => own.parent().map(Path::to_path_buf).unwrap_or_default().join(path),
            };
            let target = crate::root().join(target);
            let text = std::fs::read_to_string(&target).unwrap_or_default();
            let is_there = anchor.is_empty() || anchors(&text).iter().any(|name| name == anchor);
            if !target.exists() || !is_there {
                wrong.push(format!("{}: {link}", file.path));
            }
        }
    }
    assert!(seen > 60, "only {seen} links are read");
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

/// What is quoted as code in a line of text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn quoted_paths_are_there() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in documents() {
        for word in quoted(&file.text).flat_map(str::split_whitespace) {
            // What is to be filled in, or stands for several, ends the part that is certain.
            let certain = word.split(['<', '*', '{', ':']).next().unwrap_or_default();
            if DIRECTORIES.iter().any(|start| certain.starts_with(start)) {
                seen += 1;
                // Names of end-to-end tests begin like files of theirs do not.
                let path = crate::root().join(certain);
                let parent = path.parent().map(PathBuf::from).unwrap_or_default();
                if !path.exists() && (certain == word || !parent.exists()) {
                    wrong.push(format!("{}: {word}", file.path));
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} paths are read");
    assert!(wrong.is_empty(), "paths that are not there:\n{}", wrong.join("\n"));
}

/// Commands that begin so, up to what ends them, in blocks of code and quoted.
fn commands<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let found = text.match_indices(start).map(|(at, _)| &text[at + start.len()..]);
    let ends = |c: char| "`\n#|&)\"(,;".contains(c);
    found.map(|rest| rest.split(ends).next().unwrap_or_default().trim()).collect()
}

/// What `cargo xtask` says about itself.
fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command.args(arguments).arg("--help").output().expect("xtask starts");
    assert!(output.status.success(), "xtask {arguments:?} --help");
    String::from_utf8(output.stdout).expect("text")
}

/// Whether this is a word to fill in.
fn is_placeholder(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_uppercase() || "_-=".contains(c))
}

#[test]
fn commands_of_xtask_exist() {
    let top = help(&[]);
    let known = |name: &str| top.lines().any(|line| line.split_whitespace().next() == Some(name));
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = 0;
    for file in documents() {
        for command in commands(&file.text, "cargo xtask ") {
            let mut words = command.split_whitespace();
            let Some(task) = words.next().filter(|word| !is_placeholder(word)) else { continue };
            seen += 1;
            let task = task.trim_end_matches(['.', ':']);
            assert!(known(task), "{}: there is no `cargo xtask {task}`", file.path);
            // Benchmarks belong to a program of their own; what follows -- to any.
            if task == "bench" {
                continue;
            }
            let text = helps.entry(task.to_owned()).or_insert_with(|| help(&[task]));
            for word in words.take_while(|word| *word != "--") {
                let flag = word.split('=').next().unwrap_or_default();
                let is_flag = flag.starts_with("--");
                let described = text.split([' ', ',', '\n', '=']).any(|other| other == flag);
                assert!(!is_flag || described, "{}: cargo xtask {task} has no {flag}", file.path);
            }
        }
    }
    assert!(seen > 30, "only {seen} commands are read");
}

/// Which flag names a target of a package, and the kind of target.
const TARGETS: [(&str, &str); 3] =
    [("--test", "test"), ("--example", "example"), ("--bench", "bench")];

#[test]
fn packages_and_targets_of_commands_exist() {
    let metadata = metadata();
    let members: Vec<_> =
        list(&metadata["packages"]).filter(|package| package["source"].is_null()).collect();
    let mut seen = 0;
    for file in documents() {
        let all = ["test", "run", "build", "bench", "publish"];
        for command in all.iter().flat_map(|verb| commands(&file.text, &format!("cargo {verb} "))) {
            let words: Vec<&str> = command.split_whitespace().take_while(|w| *w != "--").collect();
            let after = |flags: &[&str]| -> Vec<&str> {
                let pairs = words.windows(2).filter(|pair| flags.contains(&pair[0]));
                pairs.map(|pair| pair[1]).filter(|word| !is_placeholder(word)).collect()
            };
            let names = after(&["-p", "--package"]);
            for name in &names {
                seen += 1;
                let found = members.iter().any(|package| package["name"] == *name);
                assert!(found, "{}: there is no package {name}", file.path);
            }
            for (flag, kind) in TARGETS {
                for target in after(&[flag]) {
                    let of = |name: &str| names.is_empty() || names.contains(&name);
                    let found = members.iter().any(|package| {
                        of(package["name"].as_str().unwrap_or_default())
                            && list(&package["targets"])
                                .any(|t| t["name"] == target && t["kind"][0] == kind)
                    });
                    assert!(found, "{}: {flag} {target} of {names:?}", file.path);
                }
            }
        }
    }
    assert!(seen > 15, "only {seen} packages are read");
}

/// The forge runs what everybody can run.
#[test]
fn the_workflows_run_the_script() {
    let read = |path: &str| std::fs::read_to_string(crate::root().join(path)).expect(path);
    let script = read(".ci/run");
    assert_eq!(script.lines().last(), Some("exec cargo xtask test"));
    let commands = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("- run: "));
        lines.map(str::to_owned).collect()
    };
    let ci = commands(&read(".github/workflows/ci.yml"));
    assert!(ci.len() == 1 && ci[0].ends_with(" .ci/run"), "{ci:?}");
    let text = read(".github/workflows/nightly.yml");
    let nightly = commands(&text).join("\n");
    for command in [
        "cargo xtask test --nightly",
        "cargo xtask fuzz",
        "cargo xtask soak",
        "cargo xtask kernels",
        "cargo deny",
    ] {
        assert!(nightly.contains(command), "{command} is not run");
    }
    let line = text.lines().find_map(|line| line.trim().strip_prefix("target: ["));
    let listed: Vec<&str> = line.expect("targets").trim_end_matches(']').split(", ").collect();
    let corpus = std::fs::read_dir(crate::root().join("fuzz/corpus")).expect("a corpus");
    let mut targets: Vec<_> =
        corpus.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
    targets.sort();
    assert_eq!(listed, targets, "nightly.yml runs all fuzz targets");
}

/// Every page has its place in the book, and no link of a page leaves it, because nothing would be there.
#[test]
fn the_book_has_all_pages() {
    let summary = std::fs::read_to_string(crate::root().join("docs/SUMMARY.md")).expect("a file");
    let mut named: Vec<_> = links(&summary).into_iter().map(str::to_owned).collect();
    let pages: Vec<_> = documents()
        .into_iter()
        .filter_map(|file| Some((file.path.strip_prefix("docs/")?.to_owned(), file.text)))
        .filter(|(name, _)| name != "SUMMARY.md")
        .collect();
    let mut there: Vec<_> = pages.iter().map(|(name, _)| name.clone()).collect();
    named.sort();
    there.sort();
    assert_eq!(named, there);
    for (name, text) in &pages {
        let out = links(text).into_iter().find(|link| link.starts_with(".."));
        assert_eq!(out, None, "{name}");
    }
    let kinds = ["# Tutorial", "# How to", "# Reference", "# Explanation"];
    assert!(kinds.iter().all(|kind| summary.contains(&format!("\n{kind}\n"))));
}

#[test]
fn documents_are_read_right() {
    let text = "# A `b` c\n\nSee [x](y.md#z) and [`q`](r.md), not `[a](b)`.\n```sh\n[n](m)\ncargo xtask demo --x # y\n```\n## … An end\n";
    assert_eq!(links(text), ["y.md#z", "r.md"]);
    assert_eq!(anchors(text), ["a-b-c", "-an-end"]);
    assert_eq!(commands(text, "cargo xtask "), ["demo --x"]);
}
