use super::*;

fn sections(file: &Path) -> String {
    let output = Command::new("readelf").args(["-SW"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn line_tables_leave_the_program_and_names_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (to, symbols) =
        (directory.path().join("a/program"), directory.path().join("b/program.debug"));
    let program = std::env::current_exe().unwrap();
    split(OBJCOPY, &program, &to, &symbols).unwrap();
    assert!(sections(&program).contains(".debug_line"));
    let stripped = sections(&to);
    assert!(!stripped.contains(".debug_line"), "{stripped}");
    assert!(stripped.contains(".symtab"), "{stripped}");
    assert!(stripped.contains(".gnu_debuglink"), "{stripped}");
    assert!(sections(&symbols).contains(".debug_line"));
    let size = |file: &Path| fs::metadata(file).unwrap().len();
    assert!(size(&to) < size(&program) / 2, "{} of {}", size(&to), size(&program));
}
