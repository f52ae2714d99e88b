use super::system::{parse_libraries, parse_needs};
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

#[test]
fn needs_are_read_from_what_readelf_prints() {
    let text = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n \
                0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n \
                0x000000000000000e (SONAME)             Library soname: [libmnl.so.0]\n";
    let (interpreter, names) = parse_needs(text);
    assert_eq!(interpreter.as_deref(), Some("/lib/ld-linux-aarch64.so.1"));
    assert_eq!(names, ["libc.so.6"]);
    assert_eq!(parse_needs("There is no dynamic section in this file.\n"), (None, Vec::new()));
}

/// Programs of the image find everything they need inside it.
#[test]
fn what_is_assembled_runs_by_itself() {
    if System::Here.find("xtables-nft-multi").is_err() || System::Here.find("kmod").is_err() {
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
    // Those of ebtables and arptables are beside them on the system.
    let extensions = extensions().unwrap();
    let names = extensions.iter().map(|path| path.file_name().unwrap().to_string_lossy());
    assert!(names.clone().any(|name| name == "libxt_comment.so"));
    assert!(names.clone().all(|name| !name.starts_with("libebt") && !name.starts_with("libarpt")));
    assert!(
        assemble(&root, &System::Here.find("kmod").unwrap(), &symbols).is_err(),
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
