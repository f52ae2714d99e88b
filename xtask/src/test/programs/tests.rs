use super::*;

#[test]
fn only_test_programs_are_read() {
    let artifact = |executable: &str, test: &str| {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/w/crates/a/Cargo.toml",
            "target":{{"name":"kernel","kind":["test"]}},"profile":{{"test":{test}}},"executable":{executable}}}"#
        )
    };
    let expected = Program {
        path: "/w/target/debug/deps/kernel-1".into(),
        directory: "/w/crates/a".into(),
        target: "kernel".to_owned(),
        is_unit: false,
    };
    let program = r#""/w/target/debug/deps/kernel-1""#;
    assert_eq!(read(&artifact(program, "true")), Some(expected));
    assert_eq!(read(&artifact(program, "false")), None);
    assert_eq!(read(&artifact("null", "true")), None);
    assert_eq!(read(r#"{"reason":"build-finished","success":true}"#), None);
    assert_eq!(read("running 3 tests"), None);
}
