//! Whole numbers that were written as floats: templates turn `1048576` into `1.048576e+06`, and it means the same.

/// Beyond this, a float no longer distinguishes neighbouring numbers.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// The whole number that a float is, if it is one.
pub(super) fn from_float(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the number is whole and small enough")]
    (number.fract() == 0.0 && number.abs() <= LARGEST).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::from_float;

    #[test]
    fn only_whole_numbers_that_a_float_can_hold() {
        for (number, expected) in [
            (1_048_576.0, Some(1_048_576)),
            (-998.0, Some(-998)),
            (-0.0, Some(0)),
            (1.5, None),
            (1e300, None),
            (f64::INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(from_float(number), expected, "{number}");
        }
    }
}
