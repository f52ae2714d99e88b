//! What is tested of lists and watches in `kubernetes.rs`, in JSON.

#![expect(clippy::unwrap_used, reason = "tests panic, so that they say where")]

/// What the source is configured to speak.
pub(crate) const CONTENT_TYPE: &str = "application/json";

mod kubernetes {
    #[expect(dead_code, reason = "some of it is for tests of connections")]
    pub(crate) mod running;

    mod faults;
    mod lists;
    mod logs;
    mod objects;
}
