//! The walks of ARCHITECTURE.md name files that exist, and every setting is read.

use crate::files;

/// The section with the walks.
fn walks(text: &str) -> &str {
    let section = text.split("\n## Where do I change").nth(1).unwrap_or_default();
    section.split("\n## ").next().unwrap_or_default()
}

#[test]
fn every_file_of_a_walk_is_there() {
    let text = std::fs::read_to_string(crate::root().join("ARCHITECTURE.md")).expect("a file");
    let quoted: Vec<_> = walks(&text).split('`').skip(1).step_by(2).collect();
    let paths: Vec<_> = quoted
        .into_iter()
        .filter(|word| word.contains(['/', '.']) && !word.starts_with('/'))
        // Of `crates/<mode>/src` there is the directory before the blank to fill in.
        .map(|word| word.split('<').next().unwrap_or_default())
        .collect();
    assert!(paths.len() > 20, "the walks are not read right: {paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !crate::root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names files that are not there: {missing:?}");
}

/// Files of the product that distinguish all modes: those that a new mode makes the compiler ask about.
#[test]
fn a_mode_is_distinguished_only_in_the_files_of_its_walk() {
    let text = std::fs::read_to_string(crate::root().join("ARCHITECTURE.md")).expect("a file");
    let walk = walks(&text).split("\n### … a mode").nth(1).unwrap_or_default();
    let walk = walk.split("\n### ").next().unwrap_or_default();
    let arm = ["Mode::", "Userspace"].concat();
    let rooms = ["crates/config/src/", "crates/kube-proxy/src/"];
    let files = files::all();
    let named: Vec<_> = files
        .iter()
        .filter(|file| rooms.iter().any(|room| file.path.starts_with(room)))
        .filter(|file| file.is_rust() && !file.path.contains("tests"))
        .filter(|file| file.text.contains(&arm) || file.text.contains("Self::Userspace"))
        .map(|file| file.path.as_str())
        .collect();
    assert!(named.len() >= 3, "the files are not read right: {named:?}");
    let of_the_mode = "crates/kube-proxy/src/modes/userspace.rs";
    let elsewhere: Vec<_> = named
        .into_iter()
        .filter(|path| *path != of_the_mode && !walk.contains(&format!("`{path}`")))
        .collect();
    assert!(elsewhere.is_empty(), "ARCHITECTURE.md does not lead to these: {elsewhere:?}");
}

/// Names of the public fields that a text declares.
fn fields(text: &str) -> impl Iterator<Item = &str> {
    let names = text.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
    names.map(|(name, _)| name).filter(|name| !name.contains(' '))
}

#[test]
fn every_effective_setting_is_read() {
    let all = files::all();
    let text = |path: &str| {
        let file = all.iter().find(|file| file.path == path);
        file.map(|file| file.text.as_str()).unwrap_or_default()
    };
    let declared = ["crates/config/src/effective.rs", "crates/config/src/effective/settings.rs"];
    let readers = all.iter().filter(|file| {
        let may_read = file.path.starts_with("crates/kube-proxy/src/")
            || file.path.starts_with("crates/config/src/start_up")
            || declared.contains(&file.path.as_str());
        may_read && file.is_rust() && !file.path.contains("tests")
    });
    let read: String = readers.map(|file| file.text.as_str()).collect();
    let names: Vec<_> = declared.iter().flat_map(|path| fields(text(path))).collect();
    assert!(names.len() > 40, "the settings are not read right: {names:?}");
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let is_read = |name: &str| {
        let field = format!(".{name}");
        read.match_indices(&field).any(|(at, _)| !read[at + field.len()..].starts_with(is_word))
    };
    // Taken apart by a pattern.
    let by_pattern = ["within"];
    let unread: Vec<_> =
        names.iter().filter(|name| !is_read(name) && !by_pattern.contains(name)).collect();
    assert!(unread.is_empty(), "nothing reads these settings of `Effective`: {unread:?}");
}
