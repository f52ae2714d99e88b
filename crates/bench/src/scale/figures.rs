//! What is measured, with names and units, and statistics over it.

use std::time::Duration;

/// One measured value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// Name in JSON, with the unit.
    pub(super) key: &'static str,
    /// Text in the table.
    pub(super) label: &'static str,
    /// Unit in the table.
    pub(super) unit: &'static str,
    pub(super) value: f64,
}

/// The values of a run, in the order they were measured.
#[derive(Debug, Default)]
pub(super) struct Figures(pub(super) Vec<Figure>);

impl Figures {
    pub(super) fn add(
        &mut self,
        key: &'static str,
        label: &'static str,
        unit: &'static str,
        value: f64,
    ) {
        self.0.push(Figure { key, label, unit, value });
    }
}

/// Everything measured in one run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    /// Name of the contender.
    pub(super) contender: String,
    /// Path of its program.
    pub(super) program: String,
    /// Number of Services.
    pub(super) services: u32,
    pub(super) figures: Vec<Figure>,
}

impl Run {
    /// A value by its key.
    pub(super) fn value(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.value)
    }
}

/// Median of a figure over the runs of one contender and size.
pub(super) fn median_of(runs: &[Run], contender: &str, services: u32, key: &str) -> Option<f64> {
    let chosen = runs.iter().filter(|run| run.contender == contender && run.services == services);
    let values: Vec<_> = chosen.filter_map(|run| run.value(key)).collect();
    (!values.is_empty()).then(|| quantile(&values, 0.5))
}

/// Value at a share of the sorted values, between the two nearest; 0 of none.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "there are few values")]
    let position = share * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the last index is an index"
    )]
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

/// Durations in a unit, given by its length.
pub(super) fn in_unit(durations: &[Duration], unit: Duration) -> Vec<f64> {
    durations.iter().map(|duration| duration.div_duration_f64(unit)).collect()
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / 1e6
}

pub(super) fn as_f64(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 rules")]
    let count = count as f64;
    count
}

#[cfg(test)]
mod tests;
