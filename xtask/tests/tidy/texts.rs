//! Rules about single files.

use super::files::{self, File};

/// Longest file; beyond it nobody finds anything.
const LONGEST: usize = 700;

/// Where `unsafe` may be.
const UNSAFE_HERE: &str = "crates/netlink/";

fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let found: Vec<_> = files::all()
        .iter()
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    report("a file has at most 700 lines; split these", &found);
}

#[test]
fn unsafe_code_is_in_netlink_only() {
    let found: Vec<_> = files::all()
        .iter()
        .filter(|file| file.is_rust() && !file.path.starts_with(UNSAFE_HERE))
        .flat_map(|file| lines_with(file, is_unsafe))
        .collect();
    report("unsafe code belongs into crates/netlink", &found);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // In two parts, so that this file does not name them itself.
    let homes = [["/ho", "me/"], ["/Us", "ers/"], ["/ro", "ot/"], ["/wo", "rk/"], ["C:", "\\\\"]]
        .map(|part| part.concat());
    let found: Vec<_> = files::all()
        .iter()
        .flat_map(|file| lines_with(file, |line| homes.iter().any(|home| names_path(line, home))))
        .collect();
    report("these paths exist on one machine only", &found);
}

#[test]
fn the_readme_names_the_commands() {
    let files = files::all();
    let readme = files.iter().find(|file| file.path == "README.md").expect("there is a README.md");
    for command in ["cargo xtask demo", "cargo xtask test"] {
        assert!(readme.text.contains(command), "README.md does not say `{command}`");
    }
}

/// Lines that fit, as `path:number: text`.
fn lines_with(file: &File, fits: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = (1..).zip(file.text.lines());
    lines
        .filter(|(_, line)| fits(line))
        .map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim()))
        .collect()
}

/// Whether a line of Rust uses the keyword: a block, an item or an attribute, not a comment.
fn is_unsafe(line: &str) -> bool {
    const AFTER: [&str; 6] = ["{", "fn ", "impl", "extern", "trait", "("];
    let keyword = ["un", "safe"].concat();
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(&keyword).any(|(at, _)| {
        let whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = code[at + keyword.len()..].trim_start();
        whole && AFTER.iter().any(|after| rest.starts_with(after))
    })
}

/// Whether a path starts here, rather than goes on: `/srv/home/x` has no home directory.
fn names_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/{}".contains(c))
    })
}

#[test]
fn the_checks_find_what_they_look_for() {
    assert!(is_unsafe(&["    un", "safe { libc::getpid() }"].concat()));
    assert!(is_unsafe(&["#[un", "safe(no_mangle)]"].concat()));
    assert!(!is_unsafe("// an unsafe { block } in a comment"));
    assert!(!is_unsafe("unsafe_code = \"deny\""));
    assert!(names_path("see /srv/x", "/srv/"));
    assert!(!names_path("a/srv/x", "/srv/"));
}
