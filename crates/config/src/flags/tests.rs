use std::ffi::OsString;

use expect_test::expect_file;
use proptest::prelude::*;

use super::{Flags, Target, command, definitions, parse, parse_environment, variable};
use crate::testing::flags as loaded;

fn flags(line: &str) -> Flags {
    try_flags(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn try_flags(line: &str) -> Result<Flags, String> {
    let args = std::iter::once("kube-proxy").chain(line.split_whitespace()).map(OsString::from);
    parse(args).map_err(|error| error.to_string())
}

fn first_line(line: &str) -> String {
    try_flags(line).unwrap_err().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn help_is_grouped_and_fits_a_terminal() {
    let help = command().render_help().to_string();
    assert!(help.lines().all(|line| line.chars().count() <= 100));
    expect_file!["help.txt"].assert_eq(&help);
}

#[test]
fn every_flag_of_the_go_program_is_known() {
    // The flags of `kube-proxy --help` on Linux, and the hidden ones.
    let names = "bind-address bind-address-hard-fail boot-id-file cleanup cluster-cidr config \
        config-sync-period conntrack-max-per-core conntrack-min conntrack-tcp-be-liberal \
        conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established conntrack-udp-timeout \
        conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address \
        healthz-port help hostname-override init-only iptables-localhost-nodeports \
        iptables-masquerade-bit iptables-min-sync-period iptables-sync-period ipvs-exclude-cidrs \
        ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period ipvs-tcp-timeout \
        ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps \
        kubeconfig log-flush-frequency log-json-info-buffer-size log-json-split-stream \
        log-text-info-buffer-size log-text-split-stream logging-format machine-id-file \
        masquerade-all master metrics-bind-address metrics-port nodeport-addresses oom-score-adj \
        pod-bridge-interface pod-interface-name-prefix profiling proxy-mode \
        show-hidden-metrics-for-version v version vmodule write-config-to";
    let mut command = command();
    command.build();
    for name in names.split_whitespace() {
        assert!(command.get_arguments().any(|arg| arg.get_long() == Some(name)), "--{name}");
    }
}

/// Defaults that are no value of their flag, but words.
const IN_WORDS: [&str; 6] = [
    "external-ip-cidrs",
    "healthz-bind-address",
    "hostname-override",
    "metrics-bind-address",
    "nftables-localhost-nodeports",
    "proxy-port-range",
];

#[test]
fn defaults_are_those_that_count() {
    for mode in ["iptables", "ipvs", "nftables", "userspace"] {
        let mode = format!("--proxy-mode={mode}");
        let without = loaded(&mode).effective;
        let mut lines = Vec::new();
        for flag in definitions() {
            let is_word = IN_WORDS.contains(&flag.name.as_str());
            if flag.target == Target::Prints || flag.name == "proxy-mode" || is_word {
                continue;
            }
            let default = match (flag.default.as_str(), flag.boolean) {
                ("all; nftables: primary", _) if mode.ends_with("nftables") => "primary",
                ("all; nftables: primary", _) => "",
                ("", true) => "false",
                ("", false) => continue,
                (default, _) => default,
            };
            lines.push(format!("{mode} --{}={default}", flag.name));
        }
        assert!(lines.len() > 40, "only {} flags have a default", lines.len());
        if loaded(&lines.join(" ")).effective != without {
            // Which one is it?
            for line in &lines {
                assert_eq!(loaded(line).effective, without, "{line}");
            }
            panic!("together the defaults are something else: {lines:?}");
        }
    }
    assert_eq!(loaded("").effective, loaded("--proxy-mode=iptables").effective);
}

#[test]
fn values_with_and_without_equals_sign() {
    for line in [
        "--proxy-mode=ipvs",
        "--proxy-mode ipvs",
        "--proxy_mode ipvs",
        "--proxy-mode x --proxy-mode ipvs",
    ] {
        assert_eq!(flags(line).general.proxy_mode.as_deref(), Some("ipvs"), "{line}");
    }
    for line in ["-v=4", "-v 4", "-v4", "--v=4", "--v 4"] {
        assert_eq!(flags(line).logging.v, Some(4), "{line}");
    }
    for line in ["--oom-score-adj=-5", "--oom-score-adj -5"] {
        assert_eq!(flags(line).general.oom_score_adj, Some(-5), "{line}");
    }
    assert_eq!(flags("--hostname_override=a_b").general.hostname_override.as_deref(), Some("a_b"));
    assert_eq!(flags("--healthz-bind-address=").health.healthz_bind_address.as_deref(), Some(""));
}

#[test]
fn booleans() {
    for (value, state) in [
        ("", true),
        ("=true", true),
        ("=1", true),
        ("=T", true),
        ("=false", false),
        ("=0", false),
        ("=F", false),
    ] {
        assert_eq!(
            flags(&format!("--masquerade-all{value}")).node.masquerade_all,
            Some(state),
            "{value}"
        );
    }
    assert_eq!(flags("").node.masquerade_all, None);
    assert_eq!(
        first_line("--masquerade-all=yes"),
        "error: invalid value 'yes' for '--masquerade-all[=<BOOL>]': true or false is expected"
    );
    // As with pflag, a value apart from its boolean is an argument, and there are none.
    assert_eq!(
        first_line("--masquerade-all true"),
        "error: unexpected argument \"true\": kube-proxy takes flags only"
    );
}

#[test]
fn lists_and_maps_gather() {
    let parsed = flags(
        "--ipvs-exclude-cidrs=a,b --ipvs-exclude-cidrs c --feature-gates=A=true,B=false --feature-gates=C=1 --vmodule=x=1,y=2 --feature-gates=",
    );
    assert_eq!(parsed.ipvs.ipvs_exclude_cidrs, ["a", "b", "c"]);
    let gates: Vec<_> = parsed.general.feature_gates.into_iter().flatten().collect();
    assert_eq!(gates, [("A".to_owned(), true), ("B".to_owned(), false), ("C".to_owned(), true)]);
    assert_eq!(parsed.logging.vmodule.iter().flatten().count(), 2);
}

#[test]
fn wrong_flags_are_explained() {
    for (line, expected) in [
        ("--proxy-mod=x", "error: unexpected argument '--proxy-mod' found"),
        ("run", "error: unexpected argument \"run\": kube-proxy takes flags only"),
        ("-- --v", "error: unexpected argument \"--v\": kube-proxy takes flags only"),
        ("--v=-1", "error: invalid value '-1' for '--v <N>': -1 is not in 0..=4294967295"),
        (
            "--healthz-port=70000",
            "error: invalid value '70000' for '--healthz-port <PORT>': 70000 is not in 0..=65535",
        ),
        (
            "--feature-gates=A",
            "error: invalid value 'A' for '--feature-gates <NAME=BOOL,...>': Name=true or Name=false is expected",
        ),
        (
            "--feature-gates=A=x",
            "error: invalid value 'A=x' for '--feature-gates <NAME=BOOL,...>': A: true or false is expected",
        ),
        (
            "--vmodule=a=b",
            "error: invalid value 'a=b' for '--vmodule <PATTERN=N,...>': pattern=N is expected, N a verbosity from 0 to 2147483647",
        ),
        (
            "--proxy-mode",
            "error: a value is required for '--proxy-mode <MODE>' but none was supplied",
        ),
    ] {
        assert_eq!(first_line(line), expected, "{line}");
    }
    let text = try_flags("--proxy-mod=x").unwrap_err();
    assert!(text.contains("--proxy-mode"), "{text}");
}

#[test]
fn variables_stand_for_flags() {
    assert_eq!(variable("kube-api-qps"), "KUBE_PROXY_KUBE_API_QPS");
    let found = parse_environment(|name| match name {
        "KUBE_PROXY_PROXY_MODE" => Some("ipvs".to_owned()),
        "KUBE_PROXY_V" => Some("3".to_owned()),
        "KUBE_PROXY_MASQUERADE_ALL" | "KUBE_PROXY_HELP" | "KUBE_PROXY_VERSION" => {
            Some("true".to_owned())
        }
        _ => None,
    })
    .unwrap();
    let mut expected = Flags::default();
    expected.general.proxy_mode = Some("ipvs".to_owned());
    expected.node.masquerade_all = Some(true);
    expected.logging.v = Some(3);
    assert_eq!(found, expected);

    let wrong = |name: &str| (name == "KUBE_PROXY_KUBE_API_QPS").then(|| "many".to_owned());
    assert_eq!(
        parse_environment(wrong).unwrap_err().to_string(),
        "environment variable KUBE_PROXY_KUBE_API_QPS: \
         invalid value 'many' for '--kube-api-qps <N>': invalid float literal"
    );
}

proptest! {
    #[test]
    fn never_panics(args in proptest::collection::vec("(--)?[a-z-]{0,12}=?\\PC{0,8}", 0..6)) {
        let _ = parse(std::iter::once("kube-proxy".to_owned()).chain(args).map(OsString::from));
    }

    #[test]
    fn known_flags_with_any_value_never_panic(index in 0_usize..100, value in "\\PC{0,12}") {
        let command = command();
        let flags: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        let arg = format!("--{}={value}", flags[index % flags.len()]);
        let _ = parse(["kube-proxy".into(), arg.into()]);
    }
}

#[test]
fn a_mask_of_marks_is_a_number_with_several_bits_or_none() {
    let mask = |line: &str| loaded(line).effective.ipvs.mark_mask;
    assert_eq!(mask(""), 0x107f);
    for (text, expected) in [("0", 0), ("0x30000", 0x3_0000), ("3", 3), ("0XFFFFFFFF", u32::MAX)] {
        assert_eq!(mask(&format!("--ipvs-mark-mask={text}")), expected);
    }
    for text in ["0x1000", "1", "-1", "0x1ffffffff", "0x", "0x+3", "many"] {
        let line = format!("--ipvs-mark-mask={text}");
        assert!(first_line(&line).contains("at least two of them set"), "{text}");
    }
}
