use proptest::prelude::*;

use super::GoDuration;

fn parsed(text: &str) -> Result<i64, String> {
    text.parse::<GoDuration>().map(|duration| duration.0).map_err(|error| error.to_string())
}

#[test]
fn reads_what_go_reads() {
    for (text, nanoseconds) in [
        ("0", 0),
        ("0s", 0),
        ("-0s", 0),
        ("30s", 30_000_000_000),
        ("1h2m3.5s", 3_723_500_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("+5m", 300_000_000_000),
        ("-1.5s", -1_500_000_000),
        ("100ms", 100_000_000),
        ("1us1ns", 1_001),
        ("2\u{b5}s", 2_000),
        ("2\u{3bc}s", 2_000),
        ("0.3333333333333333333h", 1_199_999_999_999),
        ("9223372036854775807ns", i64::MAX),
    ] {
        assert_eq!(parsed(text), Ok(nanoseconds), "{text}");
    }
}

#[test]
fn refuses_what_go_refuses() {
    for text in [
        "",
        "-",
        "+",
        "s",
        "3",
        ".",
        ".s",
        "1x",
        "1 s",
        "1.2.3s",
        "9223372036854775808ns",
        "3000000h",
        "1s2",
        "\u{fc}s",
    ] {
        assert!(parsed(text).is_err(), "{text:?}");
    }
}

#[test]
fn prints_as_go_does() {
    for (nanoseconds, text) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1\u{b5}s"),
        (2_200_000, "2.2ms"),
        (250_000_000, "250ms"),
        (3_300_000_000, "3.3s"),
        (30_000_000_000, "30s"),
        (60_000_000_000, "1m0s"),
        (900_000_000_000, "15m0s"),
        (245_001_000_000, "4m5.001s"),
        (86_400_000_000_000, "24h0m0s"),
        (-1_500_000_000, "-1.5s"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(GoDuration(nanoseconds).to_string(), text);
    }
}

proptest! {
    #[test]
    fn printed_is_read_back(nanoseconds in any::<i64>()) {
        let printed = GoDuration(nanoseconds).to_string();
        prop_assert_eq!(printed.parse::<GoDuration>(), Ok(GoDuration(nanoseconds)));
    }

    #[test]
    fn never_panics(text in "\\PC*") {
        let _ = text.parse::<GoDuration>();
    }

    #[test]
    fn never_panics_on_near_misses(text in "[-+0-9.hmnsuµ]{0,24}") {
        let _ = text.parse::<GoDuration>();
    }
}
