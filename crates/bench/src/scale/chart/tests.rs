use super::round_up;

#[test]
fn axes_end_at_round_numbers() {
    for (value, end) in [(0.0, 1.0), (0.03, 0.04), (9.3, 10.0), (1000.0, 1000.0), (6001.0, 8000.0)]
    {
        assert!((round_up(value) - end).abs() < 1e-9 * end, "{value}: {}", round_up(value));
    }
}
