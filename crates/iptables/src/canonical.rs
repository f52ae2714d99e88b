//! When two texts of a rule mean the same: what we write, and what `iptables-save` prints of it.
//!
//! Only spellings that programs are known to change are seen through. What is printed in any other way counts as another rule,
//! and its chain is written again: that costs a write, never a wrong rule.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::names::ChainName;

/// What a chain on the node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainRules {
    hash: u64,
    pub(crate) rules: u32,
}

impl ChainRules {
    /// Takes the next rule, without its chain.
    pub(crate) fn push(&mut self, rule: &str) {
        let mut hasher = DefaultHasher::new();
        self.hash.hash(&mut hasher);
        hash_rule(rule, &mut hasher);
        self.hash = hasher.finish();
        self.rules += 1;
    }

    /// The same of lines `-A CHAIN RULE`.
    pub(crate) fn of(chain: ChainName, lines: &str) -> Self {
        let mut held = Self::default();
        for line in lines.lines() {
            let rule = line.strip_prefix("-A ").and_then(|line| line.strip_prefix(chain.as_str()));
            held.push(rule.unwrap_or(line));
        }
        held
    }
}

/// The same number for two texts of a rule that mean the same.
pub(crate) fn rule_hash(rule: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_rule(rule, &mut hasher);
    hasher.finish()
}

fn hash_rule(rule: &str, hasher: &mut DefaultHasher) {
    let mut words = Words(rule);
    while let Some(word) = words.next() {
        match &*word {
            // The kernel keeps 31 bits of it.
            "--probability" => {
                let parts = words.next().and_then(|word| word.parse::<f64>().ok());
                (word, parts.map(|part| (part * f64::from(1_u32 << 31)).round().to_bits()))
                    .hash(hasher);
            }
            "--or-mark" => {
                let mark = words.next().unwrap_or_default();
                ("--set-xmark", format!("{mark}/{mark}")).hash(hasher);
            }
            "--xor-mark" => {
                let mark = words.next().unwrap_or_default();
                ("--set-xmark", format!("{mark}/0x0")).hash(hasher);
            }
            // What `recent` and REJECT do if nothing else is said.
            "--mask" | "--reject-with" => match words.next() {
                Some(value) if DEFAULTS.contains(&(&*word, &*value)) => {}
                value => (word, value).hash(hasher),
            },
            _ => word.hash(hasher),
        }
    }
}

const DEFAULTS: [(&str, &str); 4] = [
    ("--mask", "255.255.255.255"),
    ("--mask", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("--reject-with", "icmp-port-unreachable"),
    ("--reject-with", "icmp6-port-unreachable"),
];

/// The words that [`split_words`](kube_proxy_xtables::split_words) finds, one by one, and without a copy of those that need none.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        let rest = self.0.trim_start();
        if rest.is_empty() {
            self.0 = rest;
            return None;
        }
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\\'));
        let end = end.unwrap_or(rest.len());
        if !rest[end..].starts_with(['"', '\\']) {
            self.0 = &rest[end..];
            return Some(Cow::Borrowed(&rest[..end]));
        }
        let mut word = String::new();
        let mut quoted = false;
        let mut characters = rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => quoted = !quoted,
                '\\' => word.extend(characters.next().map(|(_, c)| c)),
                c if c.is_whitespace() && !quoted => {
                    self.0 = &rest[at..];
                    return Some(Cow::Owned(word));
                }
                c => word.push(c),
            }
        }
        self.0 = "";
        Some(Cow::Owned(word))
    }
}

#[cfg(test)]
mod tests;
