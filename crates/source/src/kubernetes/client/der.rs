//! The few facts of a certificate that the TLS library keeps to itself.

use jiff::civil::DateTime;

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, before the serial number.
const VERSION: u8 = 0xa0;
/// `[3]`, the last field.
const EXTENSIONS: u8 = 0xa3;

/// 2.5.29.37
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.37.0
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 1.3.6.1.5.5.7.3.1
const SERVER_AUTHENTICATION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// What a certificate says about when and for what it may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
    /// It is for servers, or says nothing about its purpose.
    pub(super) for_servers: bool,
}

/// Reads a certificate; `None` if it is none.
pub(super) fn facts(certificate: &[u8]) -> Option<Facts> {
    let mut outer = Reader(certificate).enter(SEQUENCE)?;
    let mut fields = outer.enter(SEQUENCE)?;
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        fields.next()?;
    }
    let mut validity = fields.enter(SEQUENCE)?;
    let not_before = time(validity.next()?)?;
    let not_after = time(validity.next()?)?;
    let mut for_servers = true;
    while let Some((tag, content)) = fields.next() {
        if tag == EXTENSIONS {
            for_servers = is_for_servers(content)?;
        }
    }
    Some(Facts { not_before, not_after, for_servers })
}

fn is_for_servers(extensions: &[u8]) -> Option<bool> {
    let mut extensions = Reader(extensions).enter(SEQUENCE)?;
    while !extensions.0.is_empty() {
        let mut extension = extensions.enter(SEQUENCE)?;
        let (_, name) = extension.next()?;
        if name != EXTENDED_KEY_USAGE {
            continue;
        }
        // Between the two there may be whether it is critical.
        let mut field = extension.next()?;
        if field.0 != OCTET_STRING {
            field = extension.next()?;
        }
        let mut purposes = Reader(field.1).enter(SEQUENCE)?;
        let mut any = false;
        while !purposes.0.is_empty() {
            let (tag, purpose) = purposes.next()?;
            any |= tag == OBJECT_IDENTIFIER
                && (purpose == SERVER_AUTHENTICATION || purpose == ANY_PURPOSE);
        }
        return Some(any);
    }
    Some(true)
}

/// `YYMMDDhhmmssZ`, or with a year of four digits.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = text.strip_suffix(b"Z")?;
    let number = |range: std::ops::Range<usize>| -> Option<i16> {
        let digits = std::str::from_utf8(text.get(range)?).ok()?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(0..2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, 2)
        }
        (GENERALIZED_TIME, 14) => (number(0..4)?, 4),
        _ => return None,
    };
    let part = |index: usize| -> Option<i8> {
        i8::try_from(number(rest + 2 * index..rest + 2 * index + 2)?).ok()
    };
    let time = DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    // As a timestamp, the last day of 9999 would be out of range, which stands for no end at all.
    Some(time.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs())
}

/// Values one after another, each with a tag and a length.
struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// The next value: tag and content.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let size = usize::from(first & 0x7f);
            if size == 0 || size > 4 {
                return None;
            }
            let (bytes, rest) = rest.split_at_checked(size)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The values inside the next one.
    fn enter(&mut self, expected: u8) -> Option<Reader<'d>> {
        let (tag, content) = self.next()?;
        (tag == expected).then_some(Reader(content))
    }
}

#[cfg(test)]
mod tests;
