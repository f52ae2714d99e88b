//! What the tests and benchmarks of this workspace share: things as real as a test can have them.

pub mod api;
pub mod cluster;
pub mod eventually;
pub mod generate;
pub mod kube_proxy;
pub mod netns;
pub mod pod;
pub mod probe;
pub mod prober;
pub mod sandbox;
