//! Feature gates: which exist, their defaults, and which can no longer be changed.

use std::collections::BTreeMap;

/// How settled a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
    Stable,
}

struct Gate {
    name: &'static str,
    stage: Stage,
    default: bool,
    locked: bool,
}

const fn gate(name: &'static str, stage: Stage, default: bool, locked: bool) -> Gate {
    Gate { name, stage, default, locked }
}

/// The gates of Kubernetes 1.36 that change what a kube-proxy does.
const GATES: &[Gate] = &[
    gate("AllowServiceExternalIPs", Stage::Stable, true, false),
    gate("ComponentFlagz", Stage::Beta, true, false),
    gate("ComponentStatusz", Stage::Beta, true, false),
    gate("ContextualLogging", Stage::Beta, true, false),
    gate("InOrderInformersBatchProcess", Stage::Beta, true, false),
    gate("LoggingAlphaOptions", Stage::Alpha, false, false),
    gate("LoggingBetaOptions", Stage::Beta, true, false),
    gate("MultiCIDRServiceAllocator", Stage::Stable, true, true),
    gate("NFTablesProxyMode", Stage::Stable, true, true),
    gate("NativeHistograms", Stage::Alpha, false, false),
    gate("PreferSameTrafficDistribution", Stage::Stable, true, true),
    gate("WatchListClient", Stage::Beta, true, false),
];

/// The two names that stand for all gates of a stage.
const GROUPS: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// The state of every feature gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates(BTreeMap<&'static str, bool>);

impl FeatureGates {
    /// Applies settings to the defaults; a gate's own setting wins over that of its group.
    ///
    /// # Errors
    /// One `(gate, reason)` for each gate that is unknown, or locked to the other state.
    pub(crate) fn resolve(
        settings: &BTreeMap<String, bool>,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut errors = Vec::new();
        for (name, &wanted) in settings {
            if let Some(reason) = objection(name, wanted) {
                errors.push((name.clone(), reason));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let group = |stage| {
            let name = GROUPS.iter().find(|(_, of)| *of == stage)?.0;
            settings.get(name).copied()
        };
        let state = |gate: &Gate| {
            let set = settings.get(gate.name).copied().or_else(|| group(gate.stage));
            (gate.name, set.filter(|_| !gate.locked).unwrap_or(gate.default))
        };
        Ok(Self(GATES.iter().map(state).collect()))
    }

    /// Whether a feature is on; one that does not exist is off.
    pub fn enabled(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }

    /// All gates with their stages, as `kubernetes_feature_enabled` names them, and their states.
    pub fn with_stages(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> + '_ {
        GATES.iter().map(|gate| {
            let stage = match gate.stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
                Stage::Stable => "",
            };
            (gate.name, stage, self.enabled(gate.name))
        })
    }

    /// All gates with their states, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        self.0.iter().map(|(name, state)| (*name, *state))
    }
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self(GATES.iter().map(|gate| (gate.name, gate.default)).collect())
    }
}

fn objection(name: &str, wanted: bool) -> Option<String> {
    if GROUPS.iter().any(|(group, _)| *group == name) {
        return None;
    }
    match GATES.iter().find(|gate| gate.name == name) {
        None => Some(match closest(name) {
            Some(similar) => format!("unrecognized feature gate, did you mean {similar}?"),
            None => "unrecognized feature gate".to_owned(),
        }),
        Some(gate) if gate.locked && wanted != gate.default => {
            Some(format!("this feature is locked to {} and cannot be changed", gate.default))
        }
        Some(_) => None,
    }
}

/// The gate whose name is at most a third different.
fn closest(name: &str) -> Option<&'static str> {
    let known = GATES.iter().map(|gate| gate.name).chain(GROUPS.iter().map(|(name, _)| *name));
    let (distance, best) = known.map(|gate| (edit_distance(name, gate), gate)).min()?;
    (distance * 3 <= best.len()).then_some(best)
}

/// Letters to insert, delete or replace, without regard to case.
fn edit_distance(left: &str, right: &str) -> usize {
    // Names are short; longer input is no near miss and need not cost quadratic time.
    if left.len() > 100 {
        return left.len();
    }
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
