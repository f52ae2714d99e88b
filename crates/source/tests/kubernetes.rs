//! The Kubernetes source against an API server over real HTTP.

#![expect(clippy::unwrap_used, reason = "tests panic, so that they say where")]

/// What the source is configured to speak; `kubernetes_json.rs` runs the same in JSON.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

mod kubernetes {
    pub(crate) mod certificates;
    pub(crate) mod front;
    pub(crate) mod proxy_server;
    pub(crate) mod running;

    mod answers;
    mod credentials;
    mod faults;
    mod formats;
    mod lists;
    mod logs;
    mod objects;
    mod proxies;
    mod rotation;
    mod tls;
}
