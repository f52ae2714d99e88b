//! The reader of `KubeProxyConfiguration`, for fuzz targets. It may not panic, whatever it reads.

use std::path::PathBuf;

use super::file::File;
use super::layered::Layers;
use crate::document;
use crate::effective::Effective;
use crate::flags::Flags;
use crate::mode::{Mode, ModeChoice};
use crate::types::KubeProxyConfiguration;
use crate::write::to_yaml;

/// Loads a configuration file. One that is valid can be used, and written and loaded again with the same result.
///
/// # Panics
/// When that does not hold.
pub fn configuration(text: &str) {
    let Some(configuration) = load(text) else { return };
    let effective = Effective::new(&configuration, &Flags::default(), "node".to_owned());
    assert!(effective.is_some(), "a valid configuration cannot be used: {configuration:?}");
    let yaml = to_yaml(&configuration).expect("what was read can be written");
    let again = load(&yaml).unwrap_or_else(|| panic!("what was written is refused:\n{yaml}"));
    // Written are the periods of the mode alone; what is compared was written both times.
    assert_eq!(to_yaml(&again).expect("what was read can be written"), yaml);
}

/// The configuration, if it is valid.
fn load(text: &str) -> Option<KubeProxyConfiguration> {
    let root = document::parse(text).ok()?;
    let file = Some(File { path: PathBuf::from("configuration"), root });
    let layers = Layers { cli: Flags::default(), env: Flags::default(), file };
    std::hint::black_box(layers.warnings());
    let choice = || ModeChoice { mode: Mode::Nftables, reason: String::new() };
    let (configuration, figment, _) = layers.configuration(&choice).ok()?;
    layers.errors(&configuration, &figment).is_empty().then_some(configuration)
}
