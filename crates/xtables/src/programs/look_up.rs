//! Look-ups of single chains and rules, for people who ask.
//!
//! The nft variant is asked for each by itself, and lists only that chain. The legacy programs copy the whole table for every question, so that
//! one of them is asked for all; it ends at the first that is not there, and another is asked for the rest.

use std::process::{Command, ExitStatus};

use kube_proxy_core::SyncError;

use super::parse::parse_line;
use super::{NO_TABLE, Programs, failure, unlisted};
use crate::variant::Variant;
use crate::words::split_words;

/// How the programs say that a chain is not there.
const NO_CHAIN: [&str; 2] = ["No chain/target/match by that name", "does not exist"];

/// How they say that a rule is not there, or cannot be: the chain that it leads to is not.
pub(super) const NO_RULE: [&str; 4] =
    [NO_CHAIN[0], NO_CHAIN[1], "does a matching rule exist", "Couldn't load target"];

/// What the nft variant says of what it has no words for.
pub(super) const INCOMPATIBLE: &str = "incompatible";

impl Programs {
    /// The rules of each of these chains as `iptables -S` prints them, without `-A` and the chain; `None` for a chain that is not there.
    ///
    /// # Errors
    /// When the programs cannot be run, or cannot read the table.
    pub fn list_chains(
        &self,
        table: &str,
        chains: &[&str],
    ) -> Result<Vec<Option<Vec<String>>>, SyncError> {
        let mut listed: Vec<Option<Vec<String>>> = vec![None; chains.len()];
        let take = |listed: &mut [Option<Vec<String>>], line: &str| {
            let Some((verb, rest)) = line.split_once(' ') else { return };
            let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let Some(at) = chains.iter().position(|chain| *chain == name) else { return };
            let rules = listed[at].get_or_insert_default();
            if verb == "-A" {
                rules.push(rule.to_owned());
            }
        };
        if self.variant == Variant::Legacy {
            let lines: Vec<_> = chains.iter().map(|chain| format!("-S {chain}")).collect();
            self.ask_all(table, &lines, &NO_CHAIN, &mut |line| take(&mut listed, line))?;
            return Ok(listed);
        }
        for chain in chains {
            let mut command = Command::new(&self.main);
            command.args(["-t", table, "-S", chain]);
            let each = &mut |line: &str| take(&mut listed, line);
            let (status, text) = self.wait_for(&self.main, &mut command, &[], each)?;
            let is_missing = || {
                // Of some that are not there, too, 1.8.9 says that they are incompatible.
                is_missing(status, &text, &NO_CHAIN)
                    || (text.contains(INCOMPATIBLE)
                        && unlisted::lacks_chain(self.family, table, chain))
            };
            if !status.success() && !is_missing() {
                return Err(failure(
                    &format!("{} -t {table} -S {chain}", self.main),
                    status,
                    &text,
                ));
            }
        }
        Ok(listed)
    }

    /// Whether each of these rules of a table, given as a chain and the words behind it, is there.
    ///
    /// # Errors
    /// When the programs cannot be run, or take the question for none.
    pub fn find_rules(&self, table: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError> {
        if self.variant == Variant::Legacy {
            let lines: Vec<_> = rules.iter().map(|(of, rule)| format!("-C {of} {rule}")).collect();
            let missing = self.ask_all(table, &lines, &NO_RULE, &mut |_| ())?;
            return Ok((0..rules.len()).map(|at| !missing.contains(&at)).collect());
        }
        let mut found = Vec::with_capacity(rules.len());
        for (chain, rule) in rules {
            let words = split_words(rule);
            let mut arguments = vec!["-t", table, "-C", chain];
            arguments.extend(words.iter().map(String::as_str));
            let (status, text) = self.feed(&self.main, &arguments, &[])?;
            if !status.success() && !is_missing(status, &text, &NO_RULE) {
                return Err(failure(
                    &format!("{} -t {table} -C {chain}", self.main),
                    status,
                    &text,
                ));
            }
            found.push(status.success());
        }
        Ok(found)
    }

    /// Has the legacy program act on each of these lines without committing anything, and hands over what it prints.
    /// Returns the places of those that it refused because something is missing.
    fn ask_all(
        &self,
        table: &str,
        lines: &[String],
        missing: &[&str],
        each: &mut dyn FnMut(&str),
    ) -> Result<Vec<usize>, SyncError> {
        let program = self.helper("restore");
        let mut refused = Vec::new();
        let mut next = 0;
        while next < lines.len() {
            let input = format!("*{table}\n{}\nCOMMIT\n", lines[next..].join("\n"));
            let mut command = Command::new(&program);
            command.args(self.wait()).args(["--noflush", "--test"]);
            let (status, text) = self.wait_for(&program, &mut command, &[&input], each)?;
            if status.success() {
                break;
            }
            // The first line is the name of the table. Of a command that only fails, nothing but the line is said.
            let at = parse_line(&text).and_then(|line| line.checked_sub(2)).map(|at| next + at);
            let silent = status.code() == Some(1) && !text.contains(NO_TABLE);
            match at.filter(|at| *at < lines.len()) {
                Some(at) if silent || is_missing(status, &text, missing) => {
                    refused.push(at);
                    next = at + 1;
                }
                _ => return Err(failure(&program, status, &text)),
            }
        }
        Ok(refused)
    }
}

/// Whether a program ended because something is not there. A table that cannot be read is another matter.
pub(super) fn is_missing(status: ExitStatus, text: &str, words: &[&str]) -> bool {
    matches!(status.code(), Some(1 | 2))
        && words.iter().any(|words| text.contains(words))
        && !text.contains(NO_TABLE)
        && !text.contains(INCOMPATIBLE)
}
