//! The reader of requests, for fuzz targets. It may not panic, whatever it reads.

use std::sync::Arc;

use crate::debug;
use crate::serve::http::{self, Answer, Asked, Handler, Reply};

/// Reads all of a request that handlers look at.
struct ReadsAll;

impl Handler for ReadsAll {
    fn answer(&self, asked: &Asked) -> Reply {
        let [to, from] = ["to", "from"].map(|name| asked.decoded(name).unwrap_or_default());
        let read = debug::reads(&to, &from);
        let seconds = asked.parameter("seconds").map(str::parse::<u64>);
        Answer::text(format!("{} {read} {seconds:?} {}", asked.accept, asked.body.len())).into()
    }

    fn reads_body(&self, path: &str) -> bool {
        path == "/body"
    }
}

/// Serves what a client sends. Whatever is answered is an answer of HTTP.
///
/// # Panics
/// When it is none.
pub fn request(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime of this thread alone");
    let answer = runtime.block_on(http::converse(bytes, Arc::new(ReadsAll)));
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
}
