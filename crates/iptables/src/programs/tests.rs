use super::*;

#[test]
fn the_refused_line_is_found_in_any_wording() {
    let texts = [
        ("iptables-restore: line 7 failed\n", Some(7)),
        (
            "iptables-restore v1.8.9 (legacy): Bad value.\n\nError occurred at line: 12\nTry `x'",
            Some(12),
        ),
        (
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 6: RULE_APPEND failed (Too many links)",
            Some(6),
        ),
        ("iptables-nft-restore: line 2 failed: No chain/target/match by that name.", Some(2)),
        ("online 3 users", Some(3)),
        ("Another app is currently holding the xtables lock", None),
        ("line", None),
        ("", None),
    ];
    for (text, line) in texts {
        assert_eq!(parse_line(text), line, "{text}");
    }
}

#[test]
fn versions() {
    let parsed = [
        ("iptables v1.8.9 (nf_tables)\n", Some(((1, 8, 9), Variant::Nft))),
        ("ip6tables v1.8.7 (legacy)", Some(((1, 8, 7), Variant::Legacy))),
        ("iptables v1.6.1", Some(((1, 6, 1), Variant::Legacy))),
        ("iptables v1.9", Some(((1, 9, 0), Variant::Legacy))),
        ("iptables", None),
        ("", None),
    ];
    for (text, version) in parsed {
        assert_eq!(parse_version(text), version, "{text}");
    }
}

#[test]
fn words_of_a_rule() {
    let words =
        split_words("-A X  -m comment --comment \"a \\\"b\\\" -j c\" ! -s 1.2.3.4/32 \"\" -j Y");
    let expected = [
        "-A",
        "X",
        "-m",
        "comment",
        "--comment",
        "a \"b\" -j c",
        "!",
        "-s",
        "1.2.3.4/32",
        "",
        "-j",
        "Y",
    ];
    assert_eq!(words, expected);
    assert_eq!(split_words("  "), Vec::<String>::new());
    assert_eq!(split_words("open \"end"), ["open", "end"]);
}

fn programs(main: &str) -> Programs {
    Programs { variant: Variant::Nft, main: main.to_owned(), version: (1, 8, 9) }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = programs("/nonexistent/iptables").probe("nat").unwrap_err();
    assert!(error.to_string().contains("/nonexistent/iptables"), "{error}");
    let error = programs("/nonexistent/iptables").save("nat", &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/iptables-save"), "{error}");
}

/// Neither side waits for the other when both have more to say than a pipe holds, or when one stops listening.
#[test]
fn large_input_and_output_do_not_block() {
    let input = "x\n".repeat(1 << 20);
    let chatty = ["-c", "cat >&2; echo line 5 failed >&2; exit 1"];
    let (status, text) = programs("x").feed("sh", &chatty, &[&input, &input]).unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(text.len(), 4096);
    let deaf = ["-c", "echo no >&2; exit 3"];
    let (status, text) = programs("x").feed("sh", &deaf, &[&input]).unwrap();
    assert_eq!((status.code(), text.as_str()), (Some(3), "no\n"));
}

#[test]
fn a_held_lock_is_busy() {
    use std::os::unix::process::ExitStatusExt;
    let status = ExitStatus::from_raw(4 << 8);
    let lock = "Another app is currently holding the xtables lock; still 1s";
    assert!(matches!(failure("p", status, lock), SyncError::Busy(_)));
    assert!(matches!(failure("p", status, "line 6: RULE_APPEND failed"), SyncError::Refused(_)));
}
