//! The layers of the configuration, put on top of each other: defaults, then the file, then the environment, then the flags.

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::duration::GoDuration;
use super::flags::{self, Entry, Flags, Given, Target, variable};
use super::types::KubeProxyConfiguration;

/// Where settings come from, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Environment,
    CommandLine,
}

impl Origin {
    fn name(self, flag: &str) -> String {
        match self {
            Self::Environment => format!("environment variable {}", variable(flag)),
            Self::CommandLine if flag == "v" => "flag -v".to_owned(),
            Self::CommandLine => format!("flag --{flag}"),
        }
    }
}

/// A flag that was given, or whose variable was set, and the field that it sets.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The flag, without dashes.
    pub(crate) flag: String,
    path: &'static str,
    value: Value,
    /// It counts even when a configuration file is given.
    pub(crate) beside_file: bool,
}

/// The settings that flags make; some depend on the mode.
pub(crate) fn settings(flags: &Flags, mode: &str) -> Vec<Setting> {
    let setting = |Given { entry, field_value }: Given| {
        Some(Setting {
            flag: entry.name(),
            path: entry.target.field(mode)?,
            value: field_value,
            beside_file: matches!(entry.target, Target::FieldBesideFile(_)),
        })
    };
    flags.given().into_iter().filter_map(setting).collect()
}

/// Every flag that sets a field of the configuration, with the path of the field; some depend on the mode.
pub fn flag_fields(mode: &str) -> Vec<(String, &'static str)> {
    let field = |entry: &Entry| Some((entry.name(), entry.target.field(mode)?));
    flags::entries().filter_map(field).collect()
}

/// A dictionary under a name.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// The name of the layer below all others.
pub(crate) const DEFAULTS: &str = "defaults";
/// The name of the layer that the configuration file makes.
pub(crate) const FILE: &str = "file";

/// The defaults with the file, if there is one, on top.
pub(crate) fn base(defaults: &KubeProxyConfiguration, file: Option<Dict>) -> Figment {
    let dict = match Value::serialize(defaults) {
        Ok(Value::Dict(_, dict)) => dict,
        _ => Dict::new(),
    };
    let base = Figment::from(Layer { name: DEFAULTS.to_owned(), dict });
    match file {
        Some(dict) => base.merge(Layer { name: FILE.to_owned(), dict }),
        None => base,
    }
}

/// Puts settings on top, each as a layer of its own so that messages can name it.
pub(crate) fn overlay(base: Figment, settings: &[Setting], origin: Origin) -> Figment {
    settings.iter().fold(base, |figment, setting| {
        let mut value = setting.value.clone();
        if setting.path == "logging.vmodule" {
            // Entries gather; those that are more explicit come first, and the first match counts.
            if let (Value::Array(_, items), Ok(Value::Array(_, below))) =
                (&mut value, figment.find_value(setting.path))
            {
                items.extend(below);
            }
        }
        let dict = figment::util::nest(setting.path, value).into_dict().unwrap_or_default();
        figment.merge(Layer { name: origin.name(&setting.flag), dict })
    })
}

/// Fields whose zero value in a file means that they are not set.
pub(crate) const ZERO_MEANS_UNSET: &[&str] = &[
    "bindAddress",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "configSyncPeriod",
    "detectLocalMode",
    "healthzBindAddress",
    "iptables.minSyncPeriod",
    "iptables.syncPeriod",
    "ipvs.syncPeriod",
    "logging.flushFrequency",
    "logging.format",
    "metricsBindAddress",
    "mode",
    "nftables.minSyncPeriod",
    "nftables.syncPeriod",
];

/// Removes the fields of a file that count as not set.
pub(crate) fn drop_unset(dict: &mut Dict) {
    for path in ZERO_MEANS_UNSET {
        let (section, field) = path.rsplit_once('.').unwrap_or(("", path));
        let fields = match section {
            "" => Some(&mut *dict),
            _ => match dict.get_mut(section) {
                Some(Value::Dict(_, fields)) => Some(fields),
                _ => None,
            },
        };
        if let Some(fields) = fields
            && fields.get(field).is_some_and(is_zero)
        {
            fields.remove(field);
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(_, text) => {
            text.is_empty() || text.parse::<GoDuration>() == Ok(GoDuration::ZERO)
        }
        Value::Num(_, number) => {
            number.to_i128() == Some(0)
                || number.to_u128() == Some(0)
                || number.to_f64() == Some(0.0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
