//! Which algorithm a Service gets: the one that it or the node asks for, if the mode has it.

use std::collections::{BTreeMap, BTreeSet};

use super::Tracker;
use crate::{Algorithm, ObjectName, Service};

/// What is asked for, and what the mode has.
#[derive(Debug, Default)]
pub(super) struct Algorithms {
    /// Of Services that do not say.
    preferred: Algorithm,
    /// Besides the random choice, which every mode has.
    offered: Vec<Algorithm>,
    /// Services that ask for something else.
    lacking: BTreeMap<ObjectName, Algorithm>,
    /// Those of them that were not reported.
    new_lacking: Vec<(ObjectName, Algorithm)>,
}

impl Algorithms {
    fn has(&self, algorithm: Algorithm) -> bool {
        algorithm == Algorithm::Random || self.offered.contains(&algorithm)
    }

    /// What a Service gets; `None` for the random choice.
    pub(super) fn of(&self, service: &Service) -> Option<Algorithm> {
        let asked = service.policy.algorithm.unwrap_or(self.preferred);
        Some(asked).filter(|asked| self.has(*asked) && *asked != Algorithm::Random)
    }

    fn note(&mut self, name: &ObjectName, asked: Option<Algorithm>) {
        let Some(lacks) = asked.filter(|asked| !self.has(*asked)) else {
            self.lacking.remove(name);
            return;
        };
        if self.lacking.insert(name.clone(), lacks) != Some(lacks) {
            self.new_lacking.push((name.clone(), lacks));
        }
    }
}

impl Tracker {
    /// Says which algorithms the mode has; the random choice it has in any case. `true` if these are others than before.
    pub fn offer_algorithms(&mut self, offered: Vec<Algorithm>) -> bool {
        let differ = self.algorithms.offered != offered;
        self.all_dirty |= differ;
        self.algorithms.offered = offered;
        differ
    }

    /// Says what Services get that do not ask for an algorithm; `false` if the mode does not have it, and the random choice stays.
    pub fn prefer_algorithm(&mut self, preferred: Algorithm) -> bool {
        let has = self.algorithms.has(preferred);
        let preferred = if has { preferred } else { Algorithm::Random };
        self.all_dirty |= self.algorithms.preferred != preferred;
        self.algorithms.preferred = preferred;
        has
    }

    /// How many Services ask for an algorithm that the mode does not have, as of the last fold; they get the random choice.
    pub fn lacking(&self) -> usize {
        self.algorithms.lacking.len()
    }

    /// Takes the Services among them that were not taken before, each with what it asks for.
    pub fn take_new_lacking(&mut self) -> Vec<(ObjectName, Algorithm)> {
        std::mem::take(&mut self.algorithms.new_lacking)
    }

    pub(super) fn fold_algorithms(&mut self, dirty: &BTreeSet<ObjectName>) {
        for name in dirty {
            let service = self.services.get(name);
            let asked = service.and_then(|service| service.value.policy.algorithm);
            self.algorithms.note(name, asked);
        }
    }
}
