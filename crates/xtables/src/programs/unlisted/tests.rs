use super::*;

/// Anything else may be a table that is there and cannot be read.
#[test]
fn a_kernel_without_nf_tables_has_no_rules_of_it() {
    for errno in [Errno::EINVAL, Errno::EPROTONOSUPPORT, Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT] {
        assert!(is_missing(Some(errno)), "{errno}");
    }
    for errno in [None, Some(Errno::EPERM), Some(Errno::EINTR), Some(Errno::ENOENT)] {
        assert!(!is_missing(errno), "{errno:?}");
    }
}
