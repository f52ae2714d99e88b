use std::io::ErrorKind;
use std::time::Instant;

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
    Programs {
        variant: Variant::Nft,
        main: main.to_owned(),
        version: (1, 8, 9),
        limit: child::LIMIT,
    }
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

/// Long beyond anything that these tests wait for.
const FOREVER: &str = "1000";

fn impatient() -> Programs {
    Programs { limit: Duration::from_millis(200), ..programs("sh") }
}

fn assert_timed_out(result: Result<(ExitStatus, String), SyncError>) {
    match result {
        Err(SyncError::Io { what, source }) => {
            assert_eq!(source.kind(), ErrorKind::TimedOut);
            assert_eq!(what, "running sh");
            assert!(source.to_string().contains("200ms"), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

/// However a program hangs, it is killed, with what it started, and its name is told.
#[test]
fn a_program_that_never_ends_is_killed() {
    let started = Instant::now();
    let input = "x\n".repeat(1 << 20);
    // The first starts another program that holds the pipes, the second ends itself but leaves one, the third closes all pipes,
    // the fourth never reads its input.
    for script in [
        "sleep 1000; true",
        "sleep 1000 & exit 0",
        "exec >&- 2>&- <&-; exec sleep 1000",
        "exec sleep 1000",
    ] {
        assert!(script.contains(FOREVER));
        assert_timed_out(impatient().feed("sh", &["-c", script], &[&input]));
    }
    assert!(started.elapsed() < Duration::from_secs(100));
}

/// Neither the program nor what it started is left, not even as a zombie.
#[test]
fn nothing_is_left_of_a_killed_program() {
    let mut pids = Vec::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$; sleep 1000 & echo $!; wait"]);
    let result = impatient()
        .wait_for("sh", &mut command, &[], &mut |line| pids.push(line.parse::<u32>().unwrap()));
    assert_timed_out(result);
    let [shell, sleep] = pids[..] else { panic!("{pids:?}") };
    assert!(!std::fs::exists(format!("/proc/{shell}")).unwrap());
    // The kernel may still be about it, and an orphan may have to wait for init to be reaped.
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{sleep}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    while !gone() {
        assert!(Instant::now() < deadline, "process {sleep} goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The number of a line that has nothing to do with it neither reaches the log nor puts the blame on a service.
#[test]
fn a_transaction_that_is_too_long_is_explained() {
    let directory = std::env::temp_dir().join(format!("too-long-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let main = directory.join("iptables-nft");
    // As iptables-nft-restore 1.8.9 says it.
    let script = "#!/bin/sh\n\
        cat >/dev/null\n\
        echo 'sendmsg() failed: Message too long' >&2\n\
        echo 'iptables-restore: line 2 failed: Message too long.' >&2\n\
        exit 1\n";
    let restore = directory.join("iptables-nft-restore");
    std::fs::write(&restore, script).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&restore, permissions).unwrap();
    let mut batch = Batch::default();
    batch.table(crate::layout::Table::Nat).command("-A INPUT -j ACCEPT");
    let failure = programs(main.to_str().unwrap()).restore(&batch).unwrap_err();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(failure.line, None);
    let text = failure.to_string();
    assert!(text.contains("net.core.wmem_default") && text.contains("nftables mode"), "{text}");
    assert!(!text.contains("ACCEPT") && !text.contains("line 2"), "{text}");
}
