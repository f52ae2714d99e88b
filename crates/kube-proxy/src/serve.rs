//! What is answered over HTTP.

pub mod health;
pub mod http;
pub mod pages;
pub mod service_health;
