//! Golden rules, the in-memory kernel they are read from, and properties of syncs.

pub(crate) mod build;
mod compare;
mod counting;
mod golden;
mod levels;
mod look_up;
pub(crate) mod model;
mod policies;
mod properties;
mod restarts;
mod rewrites;
pub(crate) mod samples;
mod syncs;
