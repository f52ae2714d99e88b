//! Whether what must be there is there.
//!
//! All questions are asked at once, by one program: a restore ends at the first rule that it does not find, and says at which line.
//! Where its answer does not say, there is a program for each question.

use std::process::ExitStatus;
use std::sync::PoisonError;

use kube_proxy_core::SyncError;

use super::look_up::{NO_RULE, is_missing};
use super::parse::parse_line;
use super::{CANARY, Programs, failure, unlisted};
use crate::check::Check;
use crate::variant::Variant;
use crate::words::split_words;

/// A rule that is nowhere.
const NOWHERE: &str = "-m comment --comment \"nowhere\" -j RETURN";

/// What was there in a generation of the ruleset.
#[derive(Debug)]
pub(super) struct Held {
    generation: u32,
    checks: Vec<Check>,
}

impl Programs {
    /// Whether all of these are there. Of the nft variant, no program is asked for what was there before if the kernel says that nothing
    /// of `nf_tables` in this network namespace has changed since.
    ///
    /// # Errors
    /// When the programs cannot be run.
    pub fn hold(&self, checks: &[Check]) -> Result<bool, SyncError> {
        if self.variant == Variant::Legacy {
            return self.hold_in_copies(checks);
        }
        // Read before the programs look: a change beside them counts as one after them.
        self.hold_in(unlisted::generation(self.family), checks)
    }

    /// The same for a ruleset of this generation.
    pub(super) fn hold_in(
        &self,
        generation: Option<u32>,
        checks: &[Check],
    ) -> Result<bool, SyncError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |held: &Held| Some(held.generation) == generation && held.checks == checks;
        if held.as_ref().is_some_and(is_known) {
            return Ok(true);
        }
        let all = match self.hold_together(checks)? {
            Some(all) => all,
            None => self.hold_each(checks)?,
        };
        let generation = generation.filter(|_| all);
        *held = generation.map(|generation| Held { generation, checks: checks.to_vec() });
        Ok(all)
    }

    /// Asks one program of the nft variant for all of them; `None` if its answer does not say.
    ///
    /// With `--test` it would not look, so this is a restore like any other, of an input without changes. That such a restore ends well
    /// proves nothing, as not every version may look. So a last question is for a rule that is nowhere: a program that does not find
    /// that one has looked for, and found, all before it. It has a section of its own, for versions before 1.8.8 name the line at
    /// which the section ends.
    fn hold_together(&self, checks: &[Check]) -> Result<Option<bool>, SyncError> {
        let Some(last) = checks.last() else { return Ok(Some(true)) };
        let mut input = questions(checks);
        let before = input.lines().count();
        input.extend(["*", last.table(), "\n-C ", CANARY, " ", NOWHERE, "\nCOMMIT\n"]);
        let (status, text) = self.feed(&self.helper("restore"), &["--noflush"], &[&input])?;
        Ok(missing_line(status, &text).map(|line| line > before))
    }

    /// Asks a program for each.
    pub(super) fn hold_each(&self, checks: &[Check]) -> Result<bool, SyncError> {
        for check in checks {
            let there = match check {
                Check::Chain { table, chain } => self.run(&["-t", table, "-S", chain])?,
                Check::Rule { table, chain, rule } => {
                    let words = split_words(rule);
                    let mut arguments = vec!["-t", table, "-C", chain];
                    arguments.extend(words.iter().map(String::as_str));
                    self.run(&arguments)?
                }
            };
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asks one program of the legacy variant, which acts on copies of the tables.
    fn hold_in_copies(&self, checks: &[Check]) -> Result<bool, SyncError> {
        let program = self.helper("restore");
        let input = questions(checks);
        let (status, text) = self.feed(&program, &["--noflush", "--test"], &[&input])?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) if parse_line(&text).is_some() => Ok(false),
            _ => Err(failure(&program, status, &text)),
        }
    }
}

/// The line of the question whose answer is no. Versions before 1.8.8 give no reason; any other reason is no answer.
fn missing_line(status: ExitStatus, text: &str) -> Option<usize> {
    if status.code() == Some(1)
        && let Some(line) = text.lines().find_map(|line| line.trim_end().strip_suffix(" failed"))
    {
        return parse_line(line);
    }
    if is_missing(status, text, &NO_RULE) { parse_line(text) } else { None }
}

/// The input of a restore that only asks.
fn questions(checks: &[Check]) -> String {
    let mut input = String::new();
    for checks in checks.chunk_by(|a, b| a.table() == b.table()) {
        input.extend(["*", checks[0].table(), "\n"]);
        for check in checks {
            match check {
                Check::Chain { chain, .. } => input.extend(["-S ", *chain, "\n"]),
                Check::Rule { chain, rule, .. } => {
                    input.extend(["-C ", *chain, " ", rule.as_str(), "\n"]);
                }
            }
        }
        input.push_str("COMMIT\n");
    }
    input
}
