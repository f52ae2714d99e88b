//! What the process says of itself.

pub mod advice;
pub mod events;
pub mod logging;
pub mod metrics;
pub mod profiling;
pub mod secrets;
pub mod traffic;
