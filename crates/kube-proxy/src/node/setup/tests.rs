use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{conntrack, count_cpus};
use kube_proxy_config::ConntrackSettings;

const NAMES: [&str; 6] = [
    "nf_conntrack_max",
    "nf_conntrack_tcp_timeout_established",
    "nf_conntrack_tcp_timeout_close_wait",
    "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream",
    "nf_conntrack_tcp_be_liberal",
];

fn settings() -> ConntrackSettings {
    ConntrackSettings {
        max_per_core: Some(32_768),
        min: 131_072,
        tcp_established_timeout: Some(Duration::from_hours(24)),
        tcp_close_wait_timeout: Some(Duration::from_hours(1)),
        udp_timeout: None,
        udp_stream_timeout: None,
        tcp_be_liberal: false,
    }
}

/// What a node whose limit was `max` is set to, with this many processors; the hash size comes last.
fn after(max: u64, settings: &ConntrackSettings, cpus: u64) -> Vec<u64> {
    let directory = tempfile::tempdir().unwrap();
    for name in NAMES {
        fs::write(directory.path().join(name), "5\n").unwrap();
    }
    fs::write(directory.path().join("nf_conntrack_max"), max.to_string()).unwrap();
    let hash = directory.path().join("hashsize");
    fs::write(&hash, "65536").unwrap();
    let problems = conntrack(settings, directory.path(), &hash, cpus);
    assert_eq!(problems, Vec::<String>::new());
    let read = |path: &Path| fs::read_to_string(path).unwrap().trim().parse().unwrap();
    NAMES.iter().map(|name| read(&directory.path().join(name))).chain([read(&hash)]).collect()
}

#[test]
fn the_limit_is_raised_and_never_lowered() {
    assert_eq!(after(1000, &settings(), 2)[0], 131_072, "the least");
    assert_eq!(after(1000, &settings(), 8)[0], 262_144, "by processors");
    assert_eq!(after(1000, &settings(), 100)[0], 1 << 20, "the most");
    assert_eq!(after(5_000_000, &settings(), 8)[0], 5_000_000, "higher already");
    let generous = ConntrackSettings { min: 3_000_000, ..settings() };
    assert_eq!(after(1000, &generous, 100)[0], 3_000_000, "the least goes beyond the most");
    let alone = ConntrackSettings { max_per_core: None, ..settings() };
    assert_eq!(after(1000, &alone, 8)[0], 1000);
}

#[test]
fn the_hash_table_grows_with_the_limit() {
    assert_eq!(after(1000, &settings(), 32)[6], 262_144);
    assert_eq!(after(1000, &settings(), 2)[6], 65_536, "large enough");
    assert_eq!(after(1 << 20, &settings(), 32)[6], 262_144, "somebody set the limit alone");
    assert_eq!(after(5_000_000, &settings(), 32)[6], 65_536, "not our limit");
}

#[test]
fn timeouts_that_are_not_given_stay() {
    assert_eq!(after(1000, &settings(), 2)[1..6], [86_400, 3_600, 5, 5, 5]);
    let all = ConntrackSettings {
        udp_timeout: Some(Duration::from_secs(31)),
        udp_stream_timeout: Some(Duration::from_secs(121)),
        tcp_be_liberal: true,
        ..settings()
    };
    assert_eq!(after(1000, &all, 2)[1..6], [86_400, 3_600, 31, 121, 1]);
}

#[test]
fn what_cannot_be_set_is_named_and_the_rest_is_set() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("nf_conntrack_max"), "many").unwrap();
    fs::write(directory.path().join("nf_conntrack_tcp_timeout_close_wait"), "60").unwrap();
    let problems = conntrack(&settings(), directory.path(), Path::new("/nowhere"), 1);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("nf_conntrack_max holds \"many\""), "{}", problems[0]);
    assert!(problems[1].contains("established"), "{}", problems[1]);
    let set = fs::read_to_string(directory.path().join("nf_conntrack_tcp_timeout_close_wait"));
    assert_eq!(set.unwrap(), "3600");
}

#[test]
fn processors_are_counted_from_their_list() {
    for (list, count) in [
        ("0\n", Some(1)),
        ("0-3\n", Some(4)),
        ("0-3,8,10-11", Some(7)),
        ("", None),
        ("3-0", None),
        ("0-18446744073709551615", None),
        ("all", None),
    ] {
        assert_eq!(count_cpus(list), count, "{list:?}");
    }
}
