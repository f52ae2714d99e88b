use super::*;

#[test]
fn libraries_are_read_from_what_ldd_prints() {
    let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
    let libraries = parse_libraries(text);
    let wanted = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
    assert_eq!(libraries, wanted.map(PathBuf::from).into_iter().collect());
    assert!(parse_libraries("\tnot a dynamic executable\n").is_empty());
}

/// Programs of the image find everything they need inside it.
#[test]
fn what_is_assembled_runs_by_itself() {
    if find("xtables-nft-multi").is_err() || find("kmod").is_err() {
        // The step `host` of `cargo xtask test` installs them first.
        println!("iptables or kmod is not installed: nothing is assembled");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("rootfs");
    // Any program serves as the binary: here this test.
    let symbols = directory.path().join("symbols/kube-proxy.debug");
    assemble(&root, &std::env::current_exe().unwrap(), &symbols).unwrap();
    for (program, names) in LINKS {
        for name in names {
            assert_eq!(
                fs::read_link(root.join("usr/sbin").join(name)).unwrap(),
                Path::new(program)
            );
        }
    }
    assert!(
        assemble(&root, &find("kmod").unwrap(), &symbols).is_err(),
        "an old directory is not mixed in"
    );
    // Inside a user namespace, anybody may change the root directory.
    for words in [
        &["/usr/local/bin/kube-proxy", "--list"][..],
        &["/usr/sbin/iptables-legacy", "--version"],
        &["/usr/sbin/ip6tables-nft-restore", "--version"],
        &["/usr/sbin/modprobe", "--version"],
    ] {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(format!("--root={}", root.display()));
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}
