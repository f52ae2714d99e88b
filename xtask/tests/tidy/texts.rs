//! Rules about single files.

use super::files::{self, File};

/// Longest file; beyond it nothing is found.
const LONGEST: usize = 700;

/// Where `unsafe` may be: system calls, and what is loaded into user-mode Linux for tests, which has to replace a C function.
const UNSAFE_HERE: [&str; 2] = ["crates/netlink/", "xtask/uml-xstate/"];

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
fn unsafe_code_is_where_it_has_to_be() {
    let found: Vec<_> = files::all()
        .iter()
        .filter(|file| {
            file.is_rust() && !UNSAFE_HERE.iter().any(|here| file.path.starts_with(here))
        })
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

/// Words that drifted in from elsewhere, for which this field has its own: again, continues, reports, is notified, indefinitely, any caller.
const STRANGE: [&str; 12] = [
    "anew",
    "goes on",
    "go on",
    "tells",
    "hears",
    "heard",
    "look whether",
    "looks whether",
    "for ever",
    "whoever",
    "somebody",
    "nobody",
];

#[test]
fn comments_and_documents_use_the_words_of_the_field() {
    // The lists of words stand in this file and in the rules for contributors; the code of conduct is about people.
    let lists = ["xtask/tests/tidy/texts.rs", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md"];
    let found: Vec<_> = files::all()
        .iter()
        .filter(|file| !lists.contains(&file.path.as_str()))
        .flat_map(|file| {
            let is_document = file.is_markdown();
            lines_with(file, |line| {
                let is_comment = file.is_rust() && line.trim_start().starts_with("//");
                (is_comment || is_document) && STRANGE.iter().any(|words| has_words(line, words))
            })
        })
        .collect();
    report("these words have better ones in this field; see CONTRIBUTING.md", &found);
}

/// Whether a line has these words, whole, and not as code between backticks.
fn has_words(line: &str, words: &str) -> bool {
    let line = line.to_lowercase();
    let prose: String = line.split('`').step_by(2).collect();
    prose.match_indices(words).any(|(at, _)| {
        let before = prose[..at].chars().next_back();
        let after = prose[at + words.len()..].chars().next();
        [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
    })
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

/// Whether a path starts here, rather than in front of it: `/srv/home/x` has no home directory.
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
    assert!(has_words("// Written Anew.", "anew"));
    assert!(has_words("// it goes on", "goes on"));
    assert!(!has_words("// the user `nobody` is renewed", "nobody"));
    assert!(!has_words("// it is to go once", "go on"));
    assert!(names_path("see /srv/x", "/srv/"));
    assert!(!names_path("a/srv/x", "/srv/"));
}
