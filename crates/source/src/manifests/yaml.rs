//! How manifests are read as YAML.

use serde_saphyr::Options;

/// YAML without the limits on size that protect servers from strangers; those on aliases stay.
///
/// The limit on scalars counts each use of an alias, so it follows the text: escapes at most double it, aliases may add some.
pub(super) fn yaml_options(text: &str) -> Options {
    const MANY: usize = 1 << 31;
    const ALIASES: usize = 64 << 20;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: MANY,
            max_nodes: MANY,
            max_total_scalar_bytes: text.len().saturating_mul(2).saturating_add(ALIASES),
            max_total_comment_bytes: MANY,
        },
        // As `kubectl` reads them.
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}
