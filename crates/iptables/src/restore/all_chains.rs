//! Input that has iptables-nft look at all chains of a table instead of gathering the names of those that it needs.
//!
//! iptables-nft (since 1.8.6) asks the kernel for the chains that its input names, and keeps those names in a sorted list that it searches
//! from the start for every line. The search takes two thirds of the processor time of a first sync of 10,000 services, and grows with the
//! square of their number. A command on a whole table ends that: the program reads all chains at once. `-S` is such a command, and changes
//! nothing.
//!
//! It has a price: all rules of the table are read and printed. So it is for a first sync, when there are few.
//! And it has a fault: the program then takes base chains to be there that are not, and its rules for them are refused.
//! Therefore a transaction before it brings them into being, by a rule that is put in and taken out: no packet ever meets that.

use super::{Batch, TableText, start};
use crate::layout::{HOOKS, Table};

/// With fewer chains the list is too short to matter.
pub(super) const MANY: usize = 512;

impl Batch {
    /// The input for iptables-nft that spares it the list; `None` where the list is short or much would be printed.
    ///
    /// Lines are not numbered as in [`Batch::pieces`].
    pub(crate) fn pieces_with_all_chains(&self) -> Option<Vec<&str>> {
        let suits = |text: &TableText| text.hooks && text.declared.len() >= MANY;
        let any = self.tables().iter().any(|(_, text)| suits(text));
        any.then(|| {
            self.pieces_after(
                |table, text| {
                    if suits(text) { begin(table) } else { vec![start(table)] }
                },
            )
        })
    }
}

/// What comes before the chains of a table.
fn begin(table: Table) -> Vec<&'static str> {
    let mut bases: Vec<_> =
        HOOKS.iter().filter(|hook| hook.table == table).map(|hook| hook.from).collect();
    bases.sort_unstable();
    bases.dedup();
    let mut pieces = vec![start(table)];
    for base in bases {
        pieces.extend(["-I ", base, " 1\n-D ", base, " 1\n"]);
    }
    pieces.extend(["COMMIT\n", start(table), "-S\n"]);
    pieces
}
