//! Slow start: the share of a new endpoint grows from a tenth to all of it, in steps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// In how many steps a share grows; the last is the whole share.
pub const STEPS: u8 = 10;

/// Over which time the share of a new endpoint grows: whole seconds, up to an hour. Zero is not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlowStart(u16);

/// How far the share of an endpoint has grown, from 1 on; at [`STEPS`] it has all of it, which is not said of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(u8);

impl SlowStart {
    /// No time is longer.
    const MOST: u16 = 3600;

    /// The time from the first step to the last; `None` for none.
    pub fn duration(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0.into()))
    }

    /// The step of an endpoint that began so long ago; `None` if it is over.
    pub fn step(self, since: Duration) -> Option<Step> {
        let steps = since.as_nanos() * u128::from(STEPS - 1) / self.duration()?.as_nanos();
        let step = u8::try_from(steps).ok()?.checked_add(1)?;
        (step < STEPS).then_some(Step(step))
    }

    /// How long after the beginning the step after this one comes.
    pub fn next(self, step: Step) -> Duration {
        let after = Duration::from_secs(self.0.into()) * u32::from(step.0) / u32::from(STEPS - 1);
        // What a division leaves is not lost: the step has come by then.
        after + Duration::from_nanos(1)
    }
}

impl Step {
    /// Its number, from 1 to 9.
    pub fn number(self) -> u8 {
        self.0
    }

    /// A step of this number, for tests and literals; 0 is 1, and the last is the one before [`STEPS`].
    pub fn new(number: u8) -> Self {
        Self(number.clamp(1, STEPS - 1))
    }
}

/// Hours, minutes and seconds as Go writes them, or seconds alone: `1m30s`, `90`.
impl FromStr for SlowStart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = if is_number { text.parse().ok() } else { seconds(text) };
        let fits = seconds.filter(|seconds| *seconds <= Self::MOST);
        fits.map(Self).ok_or("not a duration in whole seconds up to an hour, such as 30s or 1m30s")
    }
}

/// As it is read: `90s`.
impl fmt::Display for SlowStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

fn seconds(mut text: &str) -> Option<u16> {
    let mut sum = 0_u16;
    while !text.is_empty() {
        let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let mut rest = rest.chars();
        let unit = match rest.next()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u16>().ok()?.checked_mul(unit)?)?;
        text = rest.as_str();
    }
    Some(sum)
}

#[cfg(test)]
mod tests;
