//! The credentials that one request carries.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;

use super::tls::Identity;

/// The credentials of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Presented {
    pub(super) header: Option<HeaderValue>,
    /// A certificate of a plugin.
    pub(super) identity: Option<Arc<Identity>>,
    /// When they were obtained; `None` if they are always the same.
    pub(super) since: Option<Instant>,
}

/// The header for a token, without blanks and line ends around it.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    if let Some(at) = token.bytes().position(|byte| !byte.is_ascii_graphic()) {
        return Err(format!(
            "the token has a character that no token can have, at byte {}",
            at + 1
        ));
    }
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|error| format!("the token cannot be sent: {error}"))?;
    value.set_sensitive(true);
    Ok(value)
}
