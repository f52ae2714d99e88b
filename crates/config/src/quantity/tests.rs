use super::Quantity;

#[test]
fn reads_sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("64Ki", 65_536),
        ("1.5Mi", 1_572_864),
        ("1k", 1_000),
        ("2M", 2_000_000),
        ("1e3", 1_000),
        ("1E", 1_000_000_000_000_000_000),
        ("1500m", 2),
        ("-1", 0),
        ("99999999E", u64::MAX),
    ] {
        assert_eq!(text.parse::<Quantity>().unwrap().bytes(), bytes, "{text}");
    }
}

#[test]
fn refuses_other_text() {
    for text in ["", "Ki", "1KB", "abc", "1 Ki", "1.2.3", "--1"] {
        assert!(text.parse::<Quantity>().is_err(), "{text:?}");
    }
}
