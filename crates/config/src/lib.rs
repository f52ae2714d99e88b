//! Flags, environment and `KubeProxyConfiguration`: everything that decides how the proxy behaves.
//!
//! [`load`] puts four layers on top of each other: the defaults, the file of `--config`, environment variables
//! (`KUBE_PROXY_` and the name of a flag) and the flags.
//! As in the Go kube-proxy a file replaces the flags for everything it covers; those that still count beside it are
//! `--hostname-override`, the logging flags and the flags for what a file cannot hold.
//! A variable always counts: it is set for this program on purpose.
//!
//! The result is checked as a whole ([`FieldError`] names the field by its path in the file and what set it)
//! and turned into [`Effective`], which the rest of the program uses.
//!
//! Three things are read here that the Go kube-proxy refuses or lacks:
//! `healthzBindAddress: disabled` and the same for metrics, which is how `--write-config-to` writes an address that a
//! flag left empty; mode `userspace`; and `udpIdleTimeout`, which belongs to that mode.

mod address;
mod document;
mod duration;
mod effective;
mod error;
pub mod flags;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use load::fuzzing;
mod gates;
mod layers;
mod load;
mod mode;
mod quantity;
mod start_up;
pub mod types;
mod userspace_ports;
mod validate;
mod whole;
mod write;

pub use duration::{GoDuration, InvalidDuration};
pub use effective::{
    ConntrackSettings, Effective, IpvsSettings, KubernetesSource, LocalTraffic, LoggingSettings,
    NodePorts, Source, UserspaceSettings,
};
pub use error::ConfigError;
pub use flags::{CompletionShell, Flags, InvalidVariable, IptablesVariant, VersionFormat};
pub use gates::FeatureGates;
pub use layers::flag_fields;
pub use load::{Command, Loaded, Start, Task, load};
pub use mode::{Mode, ModeChoice, ModeOrigin};
pub use quantity::{InvalidQuantity, Quantity};
pub use start_up::{NodeFacts, StartUpError};
pub use types::KubeProxyConfiguration;
pub use validate::{FieldError, KUBERNETES_MINOR};
pub use write::{to_yaml, write_config};

#[cfg(test)]
mod testing;
