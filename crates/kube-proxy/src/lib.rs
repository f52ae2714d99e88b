//! The parts of the kube-proxy binary, as a library so that tests can reach them.
//!
//! * [`app`] wires: from the command line to a running proxy.
//! * [`modes`] has all of a mode in one file each, and what is common: choosing one, and removing what others left.
//! * [`debug`] explains over HTTP what this node serves, and [`commands`] asks it.
//! * [`family`] is one IP family at work: its thread, the way of events there, the UDP flows.
//! * [`node`] is this node: its Node object, its addresses, its sysctls.
//! * [`sources`] leads from the configuration to the source of events.
//! * [`serve`] answers over HTTP: health, metrics, `/configz`.
//! * [`telemetry`] is what the process says of itself: log, metrics, events, profiles.

pub mod app;
pub mod commands;
pub mod debug;
pub mod family;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod listing;
pub mod modes;
pub mod node;
pub mod serve;
pub mod sources;
pub mod tasks;
pub mod telemetry;

#[cfg(test)]
mod testing;
