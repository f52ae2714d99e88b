//! What must be there, to be asked for all at once.

/// Something that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A chain.
    Chain {
        /// Its table.
        table: &'static str,
        /// Its name.
        chain: &'static str,
    },
    /// A rule.
    Rule {
        /// The table of its chain.
        table: &'static str,
        /// Its chain.
        chain: &'static str,
        /// The rule without its chain, as `iptables-save` prints it.
        rule: String,
    },
}

impl Check {
    /// The table it is about.
    pub fn table(&self) -> &'static str {
        match self {
            Self::Chain { table, .. } | Self::Rule { table, .. } => table,
        }
    }
}
