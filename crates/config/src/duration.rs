//! Durations as the Go API machinery writes them: `1h2m3.5s`, `250ms`, `0s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A signed duration in nanoseconds, read and printed in the syntax of Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

const SECOND: i64 = 1_000_000_000;

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A whole number of seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// The same as a [`Duration`]; a negative value becomes zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {text:?}: {reason} (write for example 30s, 1m30s or 250ms)")]
pub struct InvalidDuration {
    text: String,
    reason: &'static str,
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text).map(Self).map_err(|reason| InvalidDuration { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<i64, &'static str> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err("it is empty");
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = parse_component(rest)?;
        total = total.saturating_add(nanoseconds);
        rest = after;
    }
    let signed = if negative { -total } else { total };
    i64::try_from(signed).map_err(|_| "it is too long")
}

/// One number with its unit, and what follows it.
fn parse_component(text: &str) -> Result<(i128, &str), &'static str> {
    let number_end =
        text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("a number lacks its unit")?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_end);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND.into(),
        "m" => i128::from(SECOND) * 60,
        "h" => i128::from(SECOND) * 3600,
        _ => return Err("the units are h, m, s, ms, us and ns"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err("a number is malformed");
    }
    let whole: i64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| "it is too long")?,
    };
    Ok((i128::from(whole) * scale + scaled_fraction(fraction, scale), after))
}

/// The decimal digits after the point times `scale`, rounded down; digits beyond the 18th cannot matter.
fn scaled_fraction(digits: &str, scale: i128) -> i128 {
    let mut value = 0;
    let mut divisor = 1;
    for digit in digits.bytes().take(18) {
        value = value * 10 + i128::from(digit - b'0');
        divisor *= 10;
    }
    value * scale / divisor
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (unit, scale, digits) = match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => ("ns", 1, 0),
            1_000..1_000_000 => ("\u{b5}s", 1_000, 3),
            1_000_000..1_000_000_000 => ("ms", 1_000_000, 6),
            _ => return write_long(f, sign, nanos),
        };
        write!(f, "{sign}{}{unit}", decimal(nanos / scale, nanos % scale, digits))
    }
}

/// One second and more: hours and minutes only where they are needed.
fn write_long(f: &mut fmt::Formatter<'_>, sign: &str, nanos: u64) -> fmt::Result {
    const NANOS: u64 = 1_000_000_000;
    let seconds = nanos / NANOS;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    f.write_str(sign)?;
    if hours > 0 {
        write!(f, "{hours}h")?;
    }
    if seconds >= 60 {
        write!(f, "{minutes}m")?;
    }
    write!(f, "{}s", decimal(seconds % 60, nanos % NANOS, 9))
}

fn decimal(whole: u64, fraction: u64, digits: usize) -> String {
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').to_owned()
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// Reads a duration that may also be a number of nanoseconds, as `logging.flushFrequency` may.
pub(crate) fn text_or_nanoseconds<'de, D>(deserializer: D) -> Result<GoDuration, D::Error>
where
    D: Deserializer<'de>,
{
    struct Either;
    impl Visitor<'_> for Either {
        type Value = GoDuration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"5s\", or a number of nanoseconds")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, nanoseconds: i64) -> Result<GoDuration, E> {
            Ok(GoDuration(nanoseconds))
        }

        fn visit_u64<E: de::Error>(self, nanoseconds: u64) -> Result<GoDuration, E> {
            i64::try_from(nanoseconds).map(GoDuration).map_err(E::custom)
        }

        fn visit_i128<E: de::Error>(self, nanoseconds: i128) -> Result<GoDuration, E> {
            i64::try_from(nanoseconds).map(GoDuration).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Either)
}

#[cfg(test)]
mod tests;
