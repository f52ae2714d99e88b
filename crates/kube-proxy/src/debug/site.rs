//! The page at `/explain`: a document, a style sheet and scripts, all compiled in. It shows what the JSON under `/debug/` says.
//!
//! Its addresses are relative, so that it works below any path of a proxy in front. It has no state of its own: what it shows is in the
//! fragment of its address.

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};

use crate::serve::http::Answer;

/// Nothing from elsewhere, no script and no style in the document, no frame around it, nothing sent but questions to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page; `None` if there is none at this path.
pub(super) fn page(path: &str) -> Option<Answer> {
    let (content_type, text) = match path {
        "/explain" => ("text/html; charset=utf-8", include_str!("site/page.html")),
        "/explain/page.css" => ("text/css; charset=utf-8", include_str!("site/page.css")),
        "/explain/page.js" => (SCRIPT, include_str!("site/page.js")),
        "/explain/ask.js" => (SCRIPT, include_str!("site/ask.js")),
        "/explain/dom.js" => (SCRIPT, include_str!("site/dom.js")),
        "/explain/services.js" => (SCRIPT, include_str!("site/services.js")),
        "/explain/answers.js" => (SCRIPT, include_str!("site/answers.js")),
        _ => return None,
    };
    let mut answer = Answer::ok(content_type, text);
    answer.headers = vec![
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // After an update of this program, its page is asked for again.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Some(answer)
}

#[cfg(test)]
mod tests;
