//! Golden rules, the in-memory kernel they are read from, and properties of syncs.

mod build;
mod counting;
mod golden;
pub(crate) mod model;
mod policies;
mod properties;
pub(crate) mod samples;
mod syncs;
