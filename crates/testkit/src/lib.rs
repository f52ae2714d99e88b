//! What the tests and benchmarks of this workspace share: things as real as a test can have them.

pub mod cluster;
pub mod eventually;
pub mod generate;
pub mod harness;
pub mod iptables;
pub mod kube_proxy;
pub mod netns;
pub mod output;
pub mod probe;
pub mod prober;
pub mod sandbox;
pub mod tools;

pub use cluster::pod;
