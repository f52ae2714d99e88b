//! The last change of a Service, in words.

use jiff::{SignedDuration, Timestamp};

use crate::debug::{Change, Family, ServicePort};

/// How long ago the Service or its endpoints changed: `5m`; `>5m` where no change is remembered and the memory goes back that far.
pub(super) fn age(port: &ServicePort, families: &[Family], now: Timestamp) -> String {
    let of_family = || families.iter().find(|family| family.family == port.family);
    let since = |time: &str| short(elapsed(time, now)?);
    match &port.last_change {
        Some(change) => since(&change.received),
        None => of_family()
            .and_then(|family| since(family.changes_since.as_deref()?))
            .map(|age| format!(">{age}")),
    }
    .unwrap_or_else(|| "-".to_owned())
}

/// What changed, when, and how long it took to the kernel.
pub(super) fn sentence(change: &Change, now: Timestamp) -> String {
    let Change { kind, object, what, received, .. } = change;
    let mut parts = vec![format!("{kind} {object} {}", what.name())];
    parts.extend(ago(received, now));
    if let (Some(ready), Some(total)) = (change.endpoints_ready, change.endpoints_total) {
        parts.push(format!(", {ready} of {total} endpoints ready"));
    }
    let between = |from: &str, to: &str| Some(milliseconds(elapsed(from, to.parse().ok()?)?));
    if let Some(took) = change.triggered.as_deref().and_then(|from| between(from, received)) {
        parts.push(format!("; {took} from the cause to this node"));
    }
    match &change.in_kernel {
        None => parts.push("; not in the kernel yet".to_owned()),
        Some(written) => {
            let took = between(received, written);
            parts.extend(took.map(|took| format!("; {took} from there to the kernel")));
        }
    }
    parts.concat()
}

/// The sentence for the last change of a service port; `None` where changes are not remembered.
pub(super) fn last(port: &ServicePort, families: &[Family], now: Timestamp) -> Option<String> {
    if let Some(change) = &port.last_change {
        return Some(sentence(change, now));
    }
    let age = age(port, families, now);
    Some(format!("none in the last {}", age.strip_prefix('>')?))
}

/// ` 3s ago`, to stand behind a word; `None` if the clock makes no sense of it.
pub(super) fn ago(time: &str, now: Timestamp) -> Option<String> {
    elapsed(time, now).and_then(short).map(|ago| format!(" {ago} ago"))
}

fn elapsed(since: &str, now: Timestamp) -> Option<SignedDuration> {
    Some(now.duration_since(since.parse().ok()?))
}

/// In the largest unit that fits. A clock that was set back makes no sense of it.
fn short(duration: SignedDuration) -> Option<String> {
    let seconds = u64::try_from(duration.as_secs()).ok()?;
    Some(match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    })
}

fn milliseconds(duration: SignedDuration) -> String {
    match duration.as_millis() {
        took @ ..10_000 => format!("{took} ms"),
        took => format!("{} s", took / 1000),
    }
}

#[cfg(test)]
mod tests;
