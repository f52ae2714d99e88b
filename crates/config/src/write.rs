//! `--write-config-to`: the configuration in the form of its file.

use std::path::Path;

use super::duration::GoDuration;
use super::error::ConfigError;
use super::mode::Mode;
use super::types::{KIND, KubeProxyConfiguration};

/// The configuration as YAML, which loads again to the same settings.
///
/// Of the sync periods only those of the active mode are kept, the others are 0.
///
/// # Errors
/// [`ConfigError::Encode`], which no configuration is known to cause.
pub fn to_yaml(configuration: &KubeProxyConfiguration) -> Result<String, ConfigError> {
    let mut config = configuration.clone();
    let section = Mode::parse(&config.mode).map_or("", Mode::section);
    let periods = [
        ("iptables", &mut config.iptables.sync_period, &mut config.iptables.min_sync_period),
        ("ipvs", &mut config.ipvs.sync_period, &mut config.ipvs.min_sync_period),
        ("nftables", &mut config.nftables.sync_period, &mut config.nftables.min_sync_period),
    ];
    for (name, sync, min) in periods {
        if name != section {
            (*sync, *min) = (GoDuration::ZERO, GoDuration::ZERO);
        } else if name != "ipvs" && *min == GoDuration::ZERO {
            // 0 would mean the default of a second.
            *min = GoDuration(1);
        }
    }
    // Through a tree, which sorts the fields by name.
    let tree = serde_json::to_value(&config)
        .map_err(|error| ConfigError::Encode(format!("{KIND}: {error}")))?;
    serde_saphyr::to_string(&tree).map_err(|error| ConfigError::Encode(format!("{KIND}: {error}")))
}

/// Writes the configuration to a file.
///
/// # Errors
/// [`ConfigError::Write`] if the file cannot be written.
pub fn write_config(
    configuration: &KubeProxyConfiguration,
    path: &Path,
) -> Result<(), ConfigError> {
    let yaml = to_yaml(configuration)?;
    std::fs::write(path, yaml)
        .map_err(|source| ConfigError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
