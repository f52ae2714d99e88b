//! Feature gates: those with an effect here, and what is said of all others.
//!
//! Gates are set for a whole cluster and copied into every component's configuration, also those of other components and of other versions.
//! So every name is accepted.

use std::collections::BTreeMap;

use super::mode::Mode;

/// How settled a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
    Stable,
}

/// What setting a gate does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// It turns the feature on or off.
    Works,
    /// The feature cannot be turned off.
    Locked,
    /// Nothing: the feature concerns the inside of the Go kube-proxy.
    Ignored,
}

struct Gate {
    name: &'static str,
    stage: Stage,
    default: bool,
    setting: Setting,
}

const fn gate(name: &'static str, stage: Stage, default: bool, setting: Setting) -> Gate {
    Gate { name, stage, default, setting }
}

/// The gates of Kubernetes 1.36 that change what a kube-proxy does.
const GATES: &[Gate] = &[
    gate("AllowServiceExternalIPs", Stage::Stable, true, Setting::Works),
    gate("ComponentFlagz", Stage::Beta, true, Setting::Works),
    gate("ComponentStatusz", Stage::Beta, true, Setting::Works),
    gate("ContextualLogging", Stage::Beta, true, Setting::Ignored),
    gate("InOrderInformersBatchProcess", Stage::Beta, true, Setting::Ignored),
    gate("KubeProxyNFTablesLocalhostNodePorts", Stage::Beta, true, Setting::Works),
    gate("LoggingAlphaOptions", Stage::Alpha, false, Setting::Works),
    gate("LoggingBetaOptions", Stage::Beta, true, Setting::Works),
    gate("MultiCIDRServiceAllocator", Stage::Stable, true, Setting::Locked),
    gate("NFTablesProxyMode", Stage::Stable, true, Setting::Locked),
    gate("NativeHistograms", Stage::Alpha, false, Setting::Ignored),
    gate("PreferSameTrafficDistribution", Stage::Stable, true, Setting::Locked),
    gate("WatchListClient", Stage::Beta, true, Setting::Ignored),
];

/// The gate with which the Go kube-proxy refuses the ipvs mode.
const IPVS: &str = "KubeProxyIPVS";

/// The two names that stand for all gates of a stage.
const GROUPS: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// Most characters of a name that are read or shown.
const LONGEST: usize = 100;

/// The state of every feature gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates(BTreeMap<&'static str, bool>);

impl FeatureGates {
    /// Applies settings to the defaults; a gate's own setting wins over that of its group.
    pub(crate) fn resolve(settings: &BTreeMap<String, bool>) -> Self {
        let group = |stage| {
            let name = GROUPS.iter().find(|(_, of)| *of == stage)?.0;
            settings.get(name).copied()
        };
        let state = |gate: &Gate| {
            let set = settings.get(gate.name).copied().or_else(|| group(gate.stage));
            (gate.name, set.filter(|_| gate.setting == Setting::Works).unwrap_or(gate.default))
        };
        Self(GATES.iter().map(state).collect())
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

/// What the operator should know of gates that were set without effect, in one line.
pub(crate) fn remark(settings: &BTreeMap<String, bool>, mode: &str) -> Option<String> {
    let remarks: Vec<_> =
        settings.iter().filter_map(|(name, &state)| without_effect(name, state, mode)).collect();
    (!remarks.is_empty())
        .then(|| format!("these feature gates have no effect here: {}", remarks.join(", ")))
}

/// The gate and, where that helps, why setting it has no effect; `None` if it has one.
fn without_effect(name: &str, state: bool, mode: &str) -> Option<String> {
    if GROUPS.iter().any(|(group, _)| *group == name) {
        return None;
    }
    if let Some(gate) = GATES.iter().find(|gate| gate.name == name) {
        return match gate.setting {
            Setting::Works => None,
            Setting::Locked if state == gate.default => None,
            Setting::Locked => Some(format!("{name} (locked to {})", gate.default)),
            Setting::Ignored => Some(name.to_owned()),
        };
    }
    Some(match closest(name) {
        _ if name == IPVS && !state && mode == Mode::Ipvs.name() => {
            format!("{name} (the ipvs mode stays supported)")
        }
        Some(similar) => format!("{} (did you mean {similar}?)", name.escape_debug()),
        None => shortened(name).escape_debug().to_string(),
    })
}

/// A name, as much of it as fits into a line.
fn shortened(name: &str) -> &str {
    name.char_indices().nth(LONGEST).map_or(name, |(end, _)| &name[..end])
}

/// The gate whose name is at most a third different, without regard to case.
fn closest(name: &str) -> Option<&'static str> {
    // A longer name is no near miss, and need not cost quadratic time.
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    let known = GATES.iter().map(|gate| gate.name).chain(GROUPS.iter().map(|(name, _)| *name));
    let distance = |gate: &'static str| (strsim::levenshtein(&name, &gate.to_lowercase()), gate);
    let (distance, best) = known.map(distance).min()?;
    (distance * 3 <= best.len()).then_some(best)
}

#[cfg(test)]
mod tests;
