//! The exposition of a registry as text.

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// `OpenMetrics` if asked for, else the older format that every scraper reads.
pub(super) fn text(registry: &Registry, open_metrics: bool) -> String {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        // Writing into a string does not fail.
        text.clear();
    }
    if open_metrics { text } else { plain(&text) }
}

/// Turns `OpenMetrics` text into the Prometheus text format 0.0.4: there, the comments of a counter carry the name of its sample.
pub(super) fn plain(open_metrics: &str) -> String {
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| {
            let (keyword, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((keyword, name, rest))
        });
        let written = match comment {
            Some((keyword @ ("HELP" | "TYPE"), name, rest)) if counters.contains(&name) => {
                writeln!(text, "# {keyword} {name}_total {rest}")
            }
            _ if line == "# EOF" || line.starts_with("# UNIT") => Ok(()),
            _ => writeln!(text, "{line}"),
        };
        written.expect("writing into a string does not fail");
    }
    text
}
