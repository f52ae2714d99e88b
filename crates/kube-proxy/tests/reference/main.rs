//! The reference pages in `docs` are made from the definitions: `UPDATE_EXPECT=1 cargo test -p kube-proxy --test reference` writes them again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod flags;
mod metrics;
mod versions;
