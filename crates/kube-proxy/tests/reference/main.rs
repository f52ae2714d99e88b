//! The reference pages in `docs` are made from the definitions: `UPDATE_EXPECT=1 cargo test -p kube-proxy --test reference` writes them anew.

mod flags;
mod metrics;
