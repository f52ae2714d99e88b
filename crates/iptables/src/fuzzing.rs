//! The reader of listings, for fuzz targets. It may not panic, whatever it reads.

use crate::actual::Actual;
use crate::layout::HOOKS;

/// Reads the tables of what `iptables-save` printed, and asks of them what a sync and a cleanup ask.
pub fn listing(text: &str) {
    for table in ["nat", "filter", "mangle"] {
        let existing = Actual::of_listing(table, |each| {
            kube_proxy_xtables::fuzzing::listing(table, text, each);
        });
        for hook in &HOOKS {
            std::hint::black_box(existing.has(hook));
        }
        for chain in &existing.chains {
            std::hint::black_box(existing.holds_rules(*chain));
        }
        std::hint::black_box(existing.part_by_references(|_| true));
    }
}
