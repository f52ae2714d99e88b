//! How connections spread over pods.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;

use anyhow::ensure;

use super::Outcome;

/// Counts of many probes of the same address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Number of answers by name of the pod.
    pub pods: BTreeMap<String, usize>,
    /// Number of probes without an answer, by what happened instead.
    pub failures: BTreeMap<String, usize>,
}

impl Spread {
    /// Number of probes.
    pub fn total(&self) -> usize {
        self.pods.values().chain(self.failures.values()).sum()
    }

    /// Checks that exactly these pods answered, all probes were answered, and each pod had its
    /// share: the same for each.
    ///
    /// The share may be off by six standard deviations of a fair random choice, so a correct
    /// balancer fails this about once in 10^8 calls; 100 probes of two pods give 20 to 80 each.
    pub fn check_even(&self, pods: &[&str]) -> anyhow::Result<()> {
        let all: Vec<_> = pods.iter().map(|pod| (*pod, 1)).collect();
        self.check_weighted(&all)
    }

    /// The same where each pod has the share of its weight.
    pub fn check_weighted(&self, pods: &[(&str, u32)]) -> anyhow::Result<()> {
        ensure!(self.failures.is_empty(), "not all probes were answered: {self}");
        let names: Vec<&str> = self.pods.keys().map(String::as_str).collect();
        let mut wanted: Vec<&str> = pods.iter().map(|(pod, _)| *pod).collect();
        wanted.sort_unstable();
        ensure!(names == wanted, "answers not of exactly {wanted:?}: {self}");
        let weights: f64 = pods.iter().map(|(_, weight)| f64::from(*weight)).sum();
        #[expect(clippy::cast_precision_loss, reason = "numbers of probes are far below 2^52")]
        let total = self.total() as f64;
        for (pod, weight) in pods {
            let share = f64::from(*weight) / weights;
            let deviation = (total * share * (1.0 - share)).sqrt();
            let count = self.pods.get(*pod).copied().unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "numbers of probes are far below 2^52")]
            let off = (count as f64 - total * share).abs();
            ensure!(off <= 6.0 * deviation, "{pod} has too large or small a share: {self}");
        }
        Ok(())
    }

    fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Answer(answer) => self.pods.entry(answer.pod.clone()),
            failure => self.failures.entry(failure.to_string()),
        };
        *counter.or_default() += 1;
    }
}

impl FromIterator<Outcome> for Spread {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut spread = Self::default();
        for outcome in outcomes {
            spread.count(&outcome);
        }
        spread
    }
}

impl Sum for Spread {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        let mut total = Self::default();
        for part in parts {
            for (pod, count) in part.pods {
                *total.pods.entry(pod).or_default() += count;
            }
            for (failure, count) in part.failures {
                *total.failures.entry(failure).or_default() += count;
            }
        }
        total
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.pods.iter().chain(&self.failures);
        for (index, (what, count)) in counts.enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{count} x {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
