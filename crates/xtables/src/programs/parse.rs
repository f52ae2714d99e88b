//! What the programs print.

use crate::variant::Variant;

/// A version of iptables, such as 1.8.9.
pub type Version = (u32, u32, u32);

/// The number of the refused line, from any of the ways in which versions and variants say it:
/// `line 7 failed`, `Error occurred at line: 7`, `line 7: RULE_APPEND failed`.
pub(super) fn parse_line(text: &str) -> Option<usize> {
    text.match_indices("line").find_map(|(at, found)| {
        let rest = text[at + found.len()..].trim_start_matches([':', ' ']);
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse().ok()
    })
}

/// `iptables v1.8.9 (nf_tables)`. Before 1.8.0 there was only the legacy variant and no word in parentheses.
/// A script around the program may say something of its own before.
pub(super) fn parse_version(text: &str) -> Option<(Version, Variant)> {
    text.lines().find_map(parse_version_line)
}

fn parse_version_line(line: &str) -> Option<(Version, Variant)> {
    let mut words = line.split_whitespace();
    // iptables, ip6tables or xtables, whatever the path.
    words.next().filter(|name| name.ends_with("tables"))?;
    let version = words.next()?.strip_prefix('v')?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let version = (number(), number(), number());
    let variant = match words.next() {
        Some("(nf_tables)") => Variant::Nft,
        _ => Variant::Legacy,
    };
    Some((version, variant))
}
