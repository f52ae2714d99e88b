//! The iptables programs for rules that are given as text: for other modes that need a few.

use kube_proxy_core::{IpFamily, SyncError};

use crate::Variant;
use crate::programs::{Kernel as _, Programs};
use crate::variant;

pub use crate::programs::{Check, split_words};

/// The programs of one family.
#[derive(Clone, Debug)]
pub struct TextRules {
    programs: Programs,
}

impl TextRules {
    /// Finds the programs of a variant, or those that the node uses, and tries them.
    ///
    /// # Errors
    /// [`SyncError::Unsupported`] when there are none, or when they do not work.
    pub fn choose(family: IpFamily, variant: Variant) -> Result<Self, SyncError> {
        let programs = variant::choose(family, variant)?;
        programs.probe("nat").map_err(|error| {
            SyncError::Unsupported(format!(
                "{} cannot use the nat table of {family}: {error}",
                programs.name()
            ))
        })?;
        Ok(Self { programs })
    }

    /// The programs of one variant, if they are there and hold any table that could have been written.
    pub fn used(family: IpFamily, variant: Variant) -> Option<Self> {
        let programs = Programs::find(family, variant)?;
        let unused = ["nat", "filter"].iter().all(|table| programs.is_unused(table));
        (!unused).then_some(Self { programs })
    }

    /// The variant in use.
    pub fn variant(&self) -> Variant {
        self.programs.variant()
    }

    /// Removes what the iptables mode has in this variant, but for these chains, given with their tables.
    pub fn remove_iptables_mode(&self, kept: &[(&str, &str)]) -> Result<(), SyncError> {
        crate::cleanup::remove_but(&self.programs, kept)
    }

    /// Whether MASQUERADE knows `--random-fully`.
    pub fn knows_random_fully(&self) -> bool {
        self.programs.knows_random_fully()
    }

    /// Hands over each line of `iptables-save` for one table.
    pub fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.programs.save(table, each)
    }

    /// Applies input of `iptables-restore --noflush`; nothing that it does not name is touched.
    pub fn restore(&self, input: &str) -> Result<(), SyncError> {
        self.programs.restore_text(&[input]).map_err(|failure| failure.error)
    }

    /// Whether all of these are there.
    pub fn holds(&self, checks: &[Check]) -> Result<bool, SyncError> {
        self.programs.holds(checks)
    }
}
