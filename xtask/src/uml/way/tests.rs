use super::*;

#[test]
fn a_kernel_with_ipvs_is_used_by_root() {
    assert_eq!(decide(true, true, 11_008), Way::Native);
    assert_eq!(decide(true, false, 832), Way::Uml(Reason::NoRoot));
    assert_eq!(decide(false, true, 832), Way::Uml(Reason::NoIpvs));
    assert_eq!(decide(false, false, 0), Way::Uml(Reason::NoIpvs));
}

#[test]
fn registers_are_completed_where_they_do_not_fit() {
    // AVX-512 with protection keys, as on Intel's processors before AMX.
    assert_eq!(decide(false, true, 2696), Way::Uml(Reason::NoIpvs));
    assert_eq!(decide(false, true, 11_008), Way::UmlWithLibrary(Reason::NoIpvs, 11_008));
}

#[test]
fn it_says_where_and_why() {
    let way = Way::UmlWithLibrary(Reason::NoIpvs, 11_008).to_string();
    for part in ["user-mode Linux", "no ip_vs", "11008 bytes", "2696"] {
        assert!(way.contains(part), "{way}");
    }
    assert_eq!(Way::Native.to_string(), "on this kernel, which has ip_vs");
}
