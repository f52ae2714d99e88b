//! The Kubernetes source against an API server over real HTTP.

#![expect(clippy::unwrap_used, reason = "tests panic, so that they say where")]

mod kubernetes {
    pub(crate) mod running;

    mod faults;
    mod lists;
    mod logs;
    mod objects;
}
