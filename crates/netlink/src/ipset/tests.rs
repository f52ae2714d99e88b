use nix::errno::Errno;

use super::explained;
use crate::error::{Error, Refusal};

fn refused(code: i32) -> String {
    let refusal = Refusal {
        object: "destroy ipset a".to_owned(),
        target: None,
        errno: Errno::from_raw(code),
        code,
        message: None,
        offset: None,
        missing: None,
    };
    explained(Error::Refused(refusal)).to_string()
}

#[test]
fn numbers_that_only_ipset_has_are_explained() {
    let in_use = refused(4100);
    assert!(in_use.ends_with("the set is in use: a rule or another set refers to it"), "{in_use}");
    let other = refused(2);
    assert!(!other.contains("ipset:"), "{other}");
}
