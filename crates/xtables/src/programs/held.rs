//! Whether what must be there is there.
//!
//! The legacy programs copy the whole table for every question, so that all questions are asked at once. The nft variant needs a program
//! for each, so that none is asked again as long as the kernel says that nothing has changed.

use std::sync::PoisonError;

use kube_proxy_core::SyncError;

use super::parse::parse_line;
use super::{Programs, failure, unlisted};
use crate::check::Check;
use crate::variant::Variant;
use crate::words::split_words;

/// What was there in a generation of the ruleset.
#[derive(Debug)]
pub(super) struct Held {
    generation: u32,
    checks: Vec<Check>,
}

impl Programs {
    /// Whether all of these are there. No program is asked for what was there before if the kernel says that nothing of `nf_tables` in
    /// this network namespace has changed since, for the nft variant needs one for each of them.
    ///
    /// # Errors
    /// When the programs cannot be run.
    pub fn hold(&self, checks: &[Check]) -> Result<bool, SyncError> {
        if self.variant == Variant::Legacy {
            return self.hold_all_at_once(checks);
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
        let all = self.hold_each(checks)?;
        let generation = generation.filter(|_| all);
        *held = generation.map(|generation| Held { generation, checks: checks.to_vec() });
        Ok(all)
    }

    /// Asks a program for each.
    fn hold_each(&self, checks: &[Check]) -> Result<bool, SyncError> {
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

    /// Asks all questions at once.
    fn hold_all_at_once(&self, checks: &[Check]) -> Result<bool, SyncError> {
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
        let program = self.helper("restore");
        let (status, text) = self.feed(&program, &["--noflush", "--test"], &[&input])?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) if parse_line(&text).is_some() => Ok(false),
            _ => Err(failure(&program, status, &text)),
        }
    }
}
