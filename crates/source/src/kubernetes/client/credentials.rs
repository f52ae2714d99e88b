//! The `Authorization` header.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use http::header::HeaderValue;

use super::exec::Plugin;
use super::presented::{Presented, bearer};

/// How we say who we are, besides a certificate.
pub(crate) enum Credentials {
    /// Not at all.
    None,
    /// Always the same.
    Header(HeaderValue),
    /// A token that is replaced from time to time.
    TokenFile(TokenFile),
    /// A program that provides a token or a certificate.
    Exec(Plugin),
}

impl Credentials {
    /// A name and a password.
    pub(crate) fn basic(name: &str, password: &str) -> Self {
        let encoded = BASE64.encode(format!("{name}:{password}").as_bytes());
        // Base64 is always the value of a header.
        HeaderValue::try_from(format!("Basic {encoded}")).map_or(Self::None, |mut value| {
            value.set_sensitive(true);
            Self::Header(value)
        })
    }

    /// A token that does not change.
    pub(crate) fn token(token: &str) -> Result<Self, String> {
        bearer(token).map(Self::Header)
    }

    /// A file that contains the token. As long as it cannot be read, the last one it contained is used, and before that `fallback`.
    pub(crate) fn token_file(
        path: PathBuf,
        fallback: Option<&str>,
        period: Duration,
    ) -> Result<Self, String> {
        let fallback =
            fallback.map(bearer).transpose().map_err(|error| format!("token: {error}"))?;
        let token = match (read_token(&path), fallback) {
            (Ok(token), _) => token,
            (Err(error), Some(fallback)) => {
                tracing::warn!("token of the kubeconfig used instead of tokenFile: {error}");
                fallback
            }
            (Err(error), None) => return Err(error),
        };
        let state = Mutex::new(Token { header: token, read: Instant::now(), broken: false });
        Ok(Self::TokenFile(TokenFile { path, period, state }))
    }

    /// What to send now.
    pub(super) async fn present(&self) -> Result<Presented, String> {
        match self {
            Self::None => Ok(Presented::default()),
            Self::Header(header) => {
                Ok(Presented { header: Some(header.clone()), ..Presented::default() })
            }
            Self::TokenFile(file) => Ok(file.present()),
            Self::Exec(plugin) => plugin.present().await,
        }
    }

    /// The server does not accept these: the next ones are to be new.
    pub(super) async fn rejected(&self, presented: &Presented) {
        match (self, presented.since) {
            (Self::TokenFile(file), Some(since)) => file.expire(since),
            (Self::Exec(plugin), Some(since)) => plugin.expire(since).await,
            _ => {}
        }
    }
}

/// Nothing secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Header(_) => f.write_str("Header"),
            Self::TokenFile(file) => write!(f, "TokenFile({})", file.path.display()),
            Self::Exec(_) => f.write_str("Exec"),
        }
    }
}

/// A file with a token.
pub(crate) struct TokenFile {
    path: PathBuf,
    /// How often it is read.
    period: Duration,
    state: Mutex<Token>,
}

struct Token {
    header: HeaderValue,
    read: Instant,
    /// The file could not be read, and the log says so.
    broken: bool,
}

impl TokenFile {
    fn present(&self) -> Presented {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read.elapsed() >= self.period {
            state.read = Instant::now();
            match read_token(&self.path) {
                Ok(header) => {
                    state.header = header;
                    state.broken = false;
                }
                Err(error) if !state.broken => {
                    tracing::warn!("token file cannot be read, the last token is kept: {error}");
                    state.broken = true;
                }
                Err(_) => {}
            }
        }
        let header = Some(state.header.clone());
        Presented { header, identity: None, since: Some(state.read) }
    }

    /// A token read at that time is not valid any more.
    fn expire(&self, since: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read <= since {
            state.read = since.checked_sub(self.period).unwrap_or(since);
        }
    }
}

fn read_token(path: &Path) -> Result<HeaderValue, String> {
    let failed = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    bearer(&text).map_err(failed)
}

#[cfg(test)]
mod tests;
