//! The parts of the kube-proxy binary, as a library so that tests can reach them.

pub mod app;
pub mod backends;
pub mod config;
pub mod family_thread;
pub mod health;
pub mod http;
pub mod localhost;
pub mod logging;
pub mod metrics;
pub mod node_setup;
pub mod node_watch;
pub mod router;
pub mod servers;
pub mod sources;
pub mod udp_flows;
