//! This node.

pub mod local_addresses;
pub mod node_ports;
pub mod setup;
pub mod watch;
