//! Query strings and the list options in them.

use super::error::ApiError;

/// The decoded parameters of a query string.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Splits and decodes a query string; nothing is refused.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name, true), decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; empty when it is absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or("")
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A boolean parameter: absent, or present and true unless it says `false` or `0`.
    fn flag(&self, name: &str) -> Option<bool> {
        self.find(name).map(|value| !matches!(value, "false" | "0"))
    }

    /// A number; absent and empty are `None`.
    fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("{name}: Invalid value: \"{text}\": not a number"))
            }),
        }
    }

    /// Whether this asks for a watch.
    pub(super) fn is_watch(&self) -> bool {
        self.flag("watch").unwrap_or(false)
    }
}

/// How the answer relates to the resourceVersion of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionMatch {
    /// Not said.
    Unset,
    /// At least as new.
    NotOlderThan,
    /// Exactly that version.
    Exact,
}

/// What a list or a watch asks for.
#[derive(Debug)]
pub(super) struct ListOptions {
    /// The asked resourceVersion; `Some(0)` means any, `None` the most recent.
    pub(super) version: Option<u64>,
    /// How the answer relates to it.
    pub(super) version_match: VersionMatch,
    /// Objects in one page.
    pub(super) limit: Option<usize>,
    /// Where the last page ended.
    pub(super) token: Option<PageToken>,
    /// Seconds after which a watch ends.
    pub(super) timeout_seconds: Option<u64>,
    /// Whether a watch may contain bookmarks.
    pub(super) bookmarks: bool,
    /// Whether a watch begins with all objects.
    pub(super) send_initial_events: Option<bool>,
}

/// The content of a continue token: a consistent view and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    /// The resourceVersion of the first page.
    pub(super) version: u64,
    /// How many objects of the view are behind us, selected or not.
    pub(super) offset: usize,
}

impl PageToken {
    /// The token as text; clients must not look into it.
    pub(super) fn encode(self) -> String {
        format!("rv{}.{}", self.version, self.offset)
    }

    fn decode(text: &str) -> Option<Self> {
        let (version, offset) = text.strip_prefix("rv")?.split_once('.')?;
        Some(Self { version: version.parse().ok()?, offset: offset.parse().ok()? })
    }
}

impl ListOptions {
    /// Reads the options and refuses what a real server refuses.
    pub(super) fn parse(query: &Query) -> Result<Self, ApiError> {
        let token = match query.get("continue") {
            "" => None,
            text => Some(PageToken::decode(text).ok_or_else(|| {
                ApiError::bad_request("continue key is not valid: it was not made by this server")
            })?),
        };
        let version_match = match query.get("resourceVersionMatch") {
            "" => VersionMatch::Unset,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            "Exact" => VersionMatch::Exact,
            other => {
                let why =
                    format!("\"{other}\": supported values: \"Exact\", \"NotOlderThan\", \"\"");
                return Err(ApiError::invalid_option("resourceVersionMatch", "NotSupported", &why));
            }
        };
        let limit = query.number("limit")?.filter(|limit| *limit > 0);
        Ok(Self {
            version: query.number("resourceVersion")?,
            version_match,
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            token,
            timeout_seconds: query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents"),
        })
    }
}

/// Decodes `%XX`, and `+` in queries; a broken escape stays as it is.
pub(super) fn decode(text: &str, plus_is_space: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            None if byte == b'+' && plus_is_space => out.push(b' '),
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
