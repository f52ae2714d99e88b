use std::process::Command;

use super::as_typed;

#[test]
fn a_command_can_be_pasted_into_a_shell() {
    let mut command = Command::new("cargo");
    command.args(["doc", "it's", ""]).env("RUSTDOCFLAGS", "-D warnings");
    assert_eq!(as_typed(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' ''");
}
