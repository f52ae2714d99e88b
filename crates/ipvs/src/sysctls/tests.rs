use super::*;

#[test]
fn only_what_differs_is_written_and_what_cannot_be_is_named() {
    let directory = std::env::temp_dir().join(format!("ipvs-sysctls-{}", std::process::id()));
    fs::create_dir_all(directory.join("ipv4/vs")).unwrap();
    fs::write(directory.join("ipv4/vs/conntrack"), "0\n").unwrap();
    fs::write(directory.join("ipv4/ip_forward"), "1\n").unwrap();
    let problems = set_all(
        &[("ipv4/vs/conntrack", "1"), ("ipv4/ip_forward", "1"), ("ipv4/none", "1")],
        &directory,
    );
    assert_eq!(fs::read_to_string(directory.join("ipv4/vs/conntrack")).unwrap(), "1");
    assert_eq!(fs::read_to_string(directory.join("ipv4/ip_forward")).unwrap(), "1\n", "as it was");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("ipv4/none"), "{}", problems[0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn connections_are_not_reused_on_kernels_that_do_it_wrongly() {
    let reuse = |release| wanted(false, release).contains(&("ipv4/vs/conn_reuse_mode", "0"));
    assert!(reuse("4.19.0-26-amd64\n") && reuse("5.4.0"));
    assert!(!reuse("5.9.1") && !reuse("6.1.176") && !reuse("3.10.0-1160") && !reuse(""));
}

#[test]
fn strict_arp_is_asked_for() {
    assert!(wanted(true, "6.1").contains(&("ipv4/conf/all/arp_ignore", "1")));
    assert!(wanted(false, "6.1").iter().all(|(name, _)| !name.contains("arp")));
}
