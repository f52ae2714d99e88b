//! What is public of the libraries that others may use, compared with a listing that is checked in.
//!
//! The listing is read from the pages that `cargo doc` writes: each library has one that names all of its public items.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::workspace;

/// The libraries, by the names of their directories.
pub(crate) const LIBRARIES: [&str; 8] =
    ["core", "netlink", "xtables", "source", "iptables", "ipvs", "nftables", "userspace"];

/// Where the listing is.
const LISTING: &str = "docs/public-items.txt";

/// Set to write the listing instead, as for golden tests.
const UPDATE: &str = "UPDATE_EXPECT";

/// Compares the listing with the pages that were written last.
pub(crate) fn check() -> anyhow::Result<()> {
    let documents = workspace::target_directory()?.join("doc");
    let mut found = String::new();
    for library in LIBRARIES {
        let name = format!("kube_proxy_{library}");
        let page = documents.join(&name).join("all.html");
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        writeln!(found, "{name}")?;
        items(&text).iter().try_for_each(|item| writeln!(found, "    {item}"))?;
    }
    let path = workspace::root().join(LISTING);
    if std::env::var_os(UPDATE).is_some() {
        return fs::write(&path, found).with_context(|| path.display().to_string());
    }
    compare(&path, &found)
}

fn compare(path: &Path, found: &str) -> anyhow::Result<()> {
    let listed = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if listed == found {
        return Ok(());
    }
    let lines = |text: &str, other: &str, sign: char| {
        let missing = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        missing.fold(String::new(), |text, line| text + &format!("{sign}{line}\n"))
    };
    bail!(
        "what is public is not what {LISTING} says:\n{}{}if that is meant: {UPDATE}=1 cargo xtask test --only doc",
        lines(&listed, found, '-'),
        lines(found, &listed, '+')
    )
}

/// The items of a page: `struct`, `enum`, `trait` and so on, with the path inside the library.
fn items(page: &str) -> Vec<String> {
    let links = page.split("<li><a href=\"").skip(1);
    let mut items: Vec<String> = links
        .filter_map(|link| {
            let (target, rest) = link.split_once("\">")?;
            let (path, _) = rest.split_once("</a>")?;
            // Those of the table of contents lead to headings.
            let kind = target.rsplit('/').next()?.split('.').next()?;
            (!target.starts_with('#')).then_some(())?;
            Some(format!("{kind} {path}"))
        })
        .collect();
    items.sort_unstable();
    items
}

#[cfg(test)]
mod tests {
    use super::items;

    #[test]
    fn items_of_a_page() {
        let page = "<li><a href=\"#structs\" title=\"Structs\">Structs</a></li><h3 id=\"structs\">Structs</h3><ul class=\"all-items\"><li><a href=\"b/struct.C.html\">b::C</a></li>\
            <li><a href=\"fn.a.html\">a</a></li></ul>";
        assert_eq!(items(page), ["fn a", "struct b::C"]);
        assert!(items("").is_empty());
    }
}
