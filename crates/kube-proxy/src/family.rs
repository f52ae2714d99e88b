//! One IP family at work.

pub mod check;
pub mod client;
pub mod history;
pub mod on_node;
pub mod router;
pub mod setup;
pub mod startup;
pub mod state;
pub mod tcp_flows;
pub mod thread;
pub mod tracked;
pub mod udp_flows;

mod knock;
mod mailbox;
mod pace;
mod report;
mod worker;
