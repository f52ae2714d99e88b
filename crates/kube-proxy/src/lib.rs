//! The parts of the kube-proxy binary, as a library so that tests can reach them.

pub mod app;
pub mod backends;
pub mod config;
pub mod config_watch;
pub mod events;
pub mod family_thread;
pub mod health;
pub mod http;
pub mod leftovers;
pub mod local_addresses;
pub mod localhost;
pub mod logging;
pub mod metrics;
pub mod node_setup;
pub mod node_watch;
pub mod profiling;
pub mod router;
pub mod servers;
pub mod service_health;
pub mod sources;
pub mod traffic;
pub mod udp_flows;
