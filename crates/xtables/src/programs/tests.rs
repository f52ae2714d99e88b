use std::io::ErrorKind;
use std::time::Instant;

use super::parse::parse_version;
use super::*;

mod choosing;
mod held;

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

fn programs(main: &str) -> Programs {
    Programs {
        variant: Variant::Nft,
        family: IpFamily::V4,
        main: main.to_owned(),
        version: (1, 8, 9),
        limit: child::LIMIT,
        held: Arc::default(),
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = programs("/nonexistent/iptables").probe("nat").unwrap_err();
    assert!(error.to_string().contains("/nonexistent/iptables"), "{error}");
    let error = programs("/nonexistent/iptables").each_line("nat", &mut |_| ()).unwrap_err();
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
    let input = "*nat\n-A INPUT -j ACCEPT\nCOMMIT\n";
    let failure = programs(main.to_str().unwrap()).restore_text(&[input]).unwrap_err();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(failure.line, None);
    let text = failure.to_string();
    assert!(text.contains("net.core.wmem_default") && text.contains("nftables mode"), "{text}");
    assert!(!text.contains("ACCEPT") && !text.contains("line 2"), "{text}");
}

/// A script in place of a program.
fn script(text: &str) -> scripts::Script {
    scripts::Script::new(text)
}

/// Scripts in the directory for temporary files, removed at the end.
mod scripts {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(super) struct Script(PathBuf);

    impl Script {
        pub(super) fn new(text: &str) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("kube-proxy-script-{}-{number}", std::process::id());
            Self::at(std::env::temp_dir().join(name), text)
        }

        /// Another process writes it: a program that this one starts meanwhile must not hold it open, or it could not be run.
        pub(super) fn at(path: PathBuf, text: &str) -> Self {
            let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
            let status = Command::new("sh").args(["-c", write]).arg(&path).arg(text).status();
            assert!(status.unwrap().success(), "{}", path.display());
            Self(path)
        }

        pub(super) fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[test]
fn a_program_that_fails_is_quoted() {
    let failing = script("echo 'ip6tables: address family not supported' >&2; exit 3");
    let reason = version_of(failing.path()).unwrap_err();
    assert!(reason.contains("address family not supported"), "{reason}");
    assert!(reason.contains("exit status: 3"), "{reason}");
    let busybox = script("echo 'BusyBox v1.36.1 multi-call binary'");
    let reason = version_of(busybox.path()).unwrap_err();
    assert!(reason.contains("BusyBox"), "{reason}");
    let reason = version_of("/nonexistent/iptables").unwrap_err();
    assert_eq!(reason, "there is no program /nonexistent/iptables");
    let killed = script("kill -9 $$");
    let reason = version_of(killed.path()).unwrap_err();
    assert!(reason.contains("signal: 9"), "{reason}");
    let warning = script("echo '# Warning: tables present'; echo 'iptables v1.8.7 (nf_tables)'");
    assert_eq!(version_of(warning.path()), Ok(((1, 8, 7), Variant::Nft)));
}

/// What `sh -c` with this text says as a listing.
fn listing_of(variant: Variant, text: &str) -> Result<Vec<String>, SyncError> {
    let main = script("exit 0");
    let _save = scripts::Script::at(format!("{}-save", main.path()).into(), text);
    let mut lines = Vec::new();
    let programs = Programs { variant, ..programs(main.path()) };
    programs.each_line("nat", &mut |line| lines.push(line.to_owned())).map(|()| lines)
}

#[test]
fn a_listing_that_is_not_whole_is_an_error() {
    let whole = listing_of(Variant::Legacy, "echo '*nat'; echo ':A - [0:0]'; echo COMMIT");
    assert_eq!(whole.unwrap(), [":A - [0:0]"]);
    let refused = [
        ("echo '*nat'; echo ':A - [0:0]'", "before the end of the table"),
        ("echo '*nat'; echo ':A - [0:0]'; kill -9 $$", "signal: 9"),
        ("echo '*nat'; echo COMMIT; echo broken >&2; exit 1", "broken"),
        ("echo odd >&2", "odd"),
        ("echo '*filter'; echo COMMIT", "listed nothing"),
        ("head -c 3000000 /dev/zero", "a line of more than"),
    ];
    for (text, words) in refused {
        let error = listing_of(Variant::Legacy, text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

/// Far more than anybody keeps in memory goes through line by line.
#[test]
fn a_long_listing_goes_through() {
    let text = "echo '*nat'; yes -- '-A MINE -j ACCEPT' | head -n 1000000; echo COMMIT";
    assert_eq!(listing_of(Variant::Legacy, text).unwrap().len(), 1_000_000);
}

#[test]
fn a_lock_that_is_held_does_not_stop_the_start() {
    let busy = script("echo 'Another app is currently holding the xtables lock' >&2; exit 4");
    programs(busy.path()).try_out().unwrap();
    let useless = script("echo 'Table does not exist' >&2; exit 3");
    let error = programs(useless.path()).try_out().unwrap_err();
    assert!(matches!(error, SyncError::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("Table does not exist"), "{error}");
}
