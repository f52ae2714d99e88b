use super::*;

#[test]
fn what_is_on_the_command_line_of_the_kernel_has_no_blanks() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let odd = directory.path().join("a b");
    fs::create_dir(&odd).unwrap();
    let exchange = exchange(&odd).unwrap();
    assert!(is_plain(exchange.path()), "{exchange:?}");
    assert!(!exchange.path().starts_with(&odd));
    let plain = directory.path();
    assert!(super::exchange(plain).unwrap().path().starts_with(plain));
}

#[test]
fn a_path_inside_is_the_same_as_outside() {
    for odd in ["/run/user/1", "/tmp/a b", "/tmp/\"a", "tmp", "/tmp/a=b", "/tmp/ä"] {
        assert!(!is_plain(Path::new(odd)), "{odd}");
    }
    assert!(is_plain(Path::new("/var/tmp/.tmpAb-1_2")));
}

#[test]
fn directories_of_libraries_may_have_blanks() {
    let path = library_path(Path::new("/a b/debug")).unwrap();
    assert_eq!(env::split_paths(&path).next(), Some(PathBuf::from("/a b/debug")));
    assert_eq!(library_file(), "libuml_xstate.so");
}
