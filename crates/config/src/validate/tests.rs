use crate::testing::{Given, HEAD, file, flags};

mod fields;

/// The error of a configuration file, without what every one of them starts with.
fn of_file(body: &str) -> String {
    let error = Given { file: Some(body), ..Given::default() }.error();
    error.strip_prefix("failed validate: KubeProxyConfiguration.").unwrap_or(&error).to_owned()
}

fn of_flags(line: &str) -> String {
    let error = Given { flags: line, ..Given::default() }.error();
    error.strip_prefix("failed validate: KubeProxyConfiguration.").unwrap_or(&error).to_owned()
}

/// One field, written on the first line of the body, and what is wrong with it.
const RULES: &[(&str, &str)] = &[
    ("bindAddress: host", "bindAddress: Invalid value: \"host\": must be a valid IP"),
    (
        "healthzBindAddress: 1.2.3.4:0",
        "healthzBindAddress: Invalid value: \"1.2.3.4:0\": must be a port from 1 to 65535",
    ),
    (
        "healthzBindAddress: host:1",
        "healthzBindAddress: Invalid value: \"host:1\": must be a valid IP",
    ),
    (
        "metricsBindAddress: 1.2.3.4:70000",
        "metricsBindAddress: Invalid value: \"1.2.3.4:70000\": must be a port from 1 to 65535",
    ),
    (
        "clientConnection: {burst: -1}",
        "clientConnection.burst: Invalid value: -1: must be greater than or equal to 0",
    ),
    ("configSyncPeriod: -1s", "configSyncPeriod: Invalid value: -1s: must be greater than 0"),
    (
        "oomScoreAdj: -1001",
        "oomScoreAdj: Invalid value: -1001: must be within the range [-1000, 1000]",
    ),
    (
        "oomScoreAdj: 1001",
        "oomScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]",
    ),
    ("hostnameOverride: ' '", "hostnameOverride: Invalid value: \" \": must not be blank"),
    (
        "showHiddenMetricsForVersion: '1.34'",
        "showHiddenMetricsForVersion: Invalid value: \"1.34\": must be omitted or the previous minor version, 1.35",
    ),
    (
        "mode: Iptables",
        "mode: Invalid value: \"Iptables\": must be one of iptables, ipvs, nftables, userspace, auto, or empty",
    ),
    (
        "iptables: {masqueradeBit: 32}",
        "iptables.masqueradeBit: Invalid value: 32: must be within the range [0, 31]",
    ),
    (
        "iptables: {syncPeriod: -1s}",
        "iptables.syncPeriod: Invalid value: -1s: must be greater than 0",
    ),
    (
        "iptables: {minSyncPeriod: -1s}",
        "iptables.minSyncPeriod: Invalid value: -1s: must be greater than or equal to 0",
    ),
    (
        "iptables: {syncPeriod: 1s, minSyncPeriod: 2s}",
        "iptables.syncPeriod: Invalid value: 1s: must be greater than or equal to iptables.minSyncPeriod, which is 2s",
    ),
    (
        "detectLocalMode: clusterCIDR",
        "detectLocalMode: Invalid value: \"clusterCIDR\": must be ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix, or empty",
    ),
    (
        "clusterCIDR: 10.0.0.0",
        "clusterCIDR: Invalid value: \"10.0.0.0\": must be a valid CIDR, or two separated by a comma",
    ),
    (
        "clusterCIDR: '10.0.0.0/8,'",
        "clusterCIDR: Invalid value: \"10.0.0.0/8,\": must be a valid CIDR, or two separated by a comma",
    ),
    (
        "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
        "clusterCIDR: Invalid value: \"10.0.0.0/8,11.0.0.0/8\": must be one CIDR, or an IPv4 and an IPv6 CIDR (a dual-stack pair)",
    ),
    (
        "clusterCIDR: 10.0.0.0/8,fd00::/8,fd01::/16",
        "clusterCIDR: Invalid value: \"10.0.0.0/8,fd00::/8,fd01::/16\": must be one CIDR, or an IPv4 and an IPv6 CIDR (a dual-stack pair)",
    ),
    (
        "nodePortAddresses: [10.0.0.0/8, x]",
        "nodePortAddresses[1]: Invalid value: \"x\": must be a valid CIDR, \"primary\", \"localhost\" or \"all\"",
    ),
    (
        "nodePortAddresses: [10.0.0.0/8, primary, localhost, all, Primary]",
        "nodePortAddresses[4]: Invalid value: \"Primary\": must be a valid CIDR, \"primary\", \"localhost\" or \"all\"",
    ),
    (
        "conntrack: {maxPerCore: -1}",
        "conntrack.maxPerCore: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "conntrack: {min: -1}",
        "conntrack.min: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "conntrack: {tcpEstablishedTimeout: -1s}",
        "conntrack.tcpEstablishedTimeout: Invalid value: -1s: must be greater than or equal to 0",
    ),
    (
        "conntrack: {tcpCloseWaitTimeout: -1s}",
        "conntrack.tcpCloseWaitTimeout: Invalid value: -1s: must be greater than or equal to 0",
    ),
    (
        "conntrack: {udpTimeout: -1s}",
        "conntrack.udpTimeout: Invalid value: -1s: must be greater than or equal to 0",
    ),
    (
        "conntrack: {udpStreamTimeout: -1s}",
        "conntrack.udpStreamTimeout: Invalid value: -1s: must be greater than or equal to 0",
    ),
    ("logging: {format: xml}", "logging.format: Invalid value: \"xml\": must be text or json"),
    (
        "logging: {flushFrequency: -1s}",
        "logging.flushFrequency: Invalid value: -1s: must be greater than 0",
    ),
    (
        "logging: {verbosity: 2147483648}",
        "logging.verbosity: Invalid value: 2147483648: must be at most 2147483647",
    ),
    (
        "logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}",
        "logging.vmodule: Invalid value: \"a\": only the text format can do this",
    ),
    (
        "logging: {vmodule: [{verbosity: 1}]}",
        "logging.vmodule[0].filePattern: Invalid value: \"\": must not be empty, nor hold an equals sign or a comma",
    ),
    (
        "logging: {vmodule: [{filePattern: a, verbosity: 3000000000}]}",
        "logging.vmodule[0].verbosity: Invalid value: 3000000000: must be at most 2147483647",
    ),
    (
        "logging: {options: {text: {splitStream: true}}}",
        "logging.options.text.splitStream: Invalid value: true: needs feature gate LoggingAlphaOptions, which is off",
    ),
    (
        "logging: {options: {json: {infoBufferSize: 1Ki}}}",
        "logging.options.json.infoBufferSize: Invalid value: \"1Ki\": needs feature gate LoggingAlphaOptions, which is off",
    ),
];

#[test]
fn every_rule_names_the_path_in_the_file() {
    let line = HEAD.lines().count() + 1;
    for (body, expected) in RULES {
        assert_eq!(of_file(body), format!("{expected} (set by FILE line {line})"), "{body}");
    }
}

/// Several fields, and the whole message.
const RULES_OF_A_MODE: &[(&str, &str)] = &[
    (
        "mode: ipvs\niptables: {masqueradeBit: -1}",
        "iptables.masqueradeBit: Invalid value: -1: must be within the range [0, 31] (set by FILE line 4)",
    ),
    (
        "mode: nftables\nnftables: {masqueradeBit: 32}",
        "nftables.masqueradeBit: Invalid value: 32: must be within the range [0, 31] (set by FILE line 4)",
    ),
    (
        "mode: nftables\nnftables: {syncPeriod: -1s}",
        "nftables.syncPeriod: Invalid value: -1s: must be greater than 0 (set by FILE line 4)",
    ),
    (
        "mode: ipvs\nipvs: {syncPeriod: 1s, minSyncPeriod: 2s}",
        "ipvs.syncPeriod: Invalid value: 1s: must be greater than or equal to ipvs.minSyncPeriod, which is 2s (set by FILE line 4)",
    ),
    (
        "mode: ipvs\nipvs: {tcpTimeout: -1s}",
        "ipvs.tcpTimeout: Invalid value: -1s: must be greater than or equal to 0 (set by FILE line 4)",
    ),
    (
        "mode: ipvs\nipvs: {tcpFinTimeout: -1s}",
        "ipvs.tcpFinTimeout: Invalid value: -1s: must be greater than or equal to 0 (set by FILE line 4)",
    ),
    (
        "mode: ipvs\nipvs: {udpTimeout: -1s}",
        "ipvs.udpTimeout: Invalid value: -1s: must be greater than or equal to 0 (set by FILE line 4)",
    ),
    (
        "mode: ipvs\nipvs:\n  excludeCIDRs:\n  - 10.0.0.0/8\n  - x",
        "ipvs.excludeCIDRs[1]: Invalid value: \"x\": must be a valid CIDR (set by FILE line 7)",
    ),
    (
        "mode: userspace\nportRange: 9-8",
        "portRange: Invalid value: \"9-8\": the last port must not be below the first (set by FILE line 4)",
    ),
    (
        "mode: userspace\nudpIdleTimeout: -1s",
        "udpIdleTimeout: Invalid value: -1s: must be greater than or equal to 0 (set by FILE line 4)",
    ),
    (
        "detectLocalMode: BridgeInterface",
        "detectLocal.bridgeInterface: Invalid value: \"\": must be set when detectLocalMode is BridgeInterface",
    ),
    (
        "detectLocalMode: InterfaceNamePrefix",
        "detectLocal.interfaceNamePrefix: Invalid value: \"\": must be set when detectLocalMode is InterfaceNamePrefix",
    ),
    (
        "featureGates: {LoggingBetaOptions: false}\nlogging: {format: json}",
        "logging.format: Invalid value: \"json\": needs feature gate LoggingBetaOptions, which is off (set by FILE line 4)",
    ),
];

#[test]
fn rules_that_need_two_lines() {
    for (body, expected) in RULES_OF_A_MODE {
        assert_eq!(of_file(body), *expected, "{body}");
    }
}

#[test]
fn what_another_mode_uses_is_not_checked() {
    file(
        "nftables: {masqueradeBit: 99, syncPeriod: -1s}\nipvs: {tcpTimeout: -1s, syncPeriod: -1s, excludeCIDRs: [x]}\nportRange: x",
    );
    file("detectLocalMode: NodeCIDR\nclusterCIDR: nonsense");
    flags("--ipvs-exclude-cidrs=x --ipvs-sync-period=-1s");
}

#[test]
fn what_set_the_value_is_named() {
    assert_eq!(
        of_flags("--iptables-masquerade-bit=40"),
        "iptables.masqueradeBit: Invalid value: 40: must be within the range [0, 31] (set by flag --iptables-masquerade-bit)"
    );
    assert_eq!(
        of_flags("--proxy-mode=nftables --iptables-sync-period=0"),
        "nftables.syncPeriod: Invalid value: 0s: must be greater than 0 (set by flag --iptables-sync-period)"
    );
    assert_eq!(
        of_flags("--nodeport-addresses=10.0.0.0/8,x"),
        "nodePortAddresses[1]: Invalid value: \"x\": must be a valid CIDR, \"primary\", \"localhost\" or \"all\" (set by flag --nodeport-addresses)"
    );
    assert_eq!(
        of_flags("-v=4294967295"),
        "logging.verbosity: Invalid value: 4294967295: must be at most 2147483647 (set by flag -v)"
    );
    assert_eq!(
        of_flags("--kube-api-qps=NaN"),
        "clientConnection.qps: Invalid value: NaN: must be a finite number (set by flag --kube-api-qps)"
    );
    let variables = &[("KUBE_PROXY_MASQUERADE_ALL", "true"), ("KUBE_PROXY_OOM_SCORE_ADJ", "5000")];
    let given = Given { variables, file: Some("oomScoreAdj: 1"), ..Given::default() };
    assert_eq!(
        given.error(),
        "failed validate: KubeProxyConfiguration.oomScoreAdj: Invalid value: 5000: must be within the range [-1000, 1000] (set by environment variable KUBE_PROXY_OOM_SCORE_ADJ)"
    );
}

#[test]
fn all_violations_are_reported_at_once() {
    let error = of_file("mode: x\nbindAddress: here\nconntrack: {min: -1, maxPerCore: -2}\n");
    assert_eq!(
        error,
        "failed validate: [\
         KubeProxyConfiguration.bindAddress: Invalid value: \"here\": must be a valid IP (set by FILE line 4), \
         KubeProxyConfiguration.mode: Invalid value: \"x\": must be one of iptables, ipvs, nftables, userspace, auto, or empty (set by FILE line 3), \
         KubeProxyConfiguration.conntrack.maxPerCore: Invalid value: -2: must be greater than or equal to 0 (set by FILE line 5), \
         KubeProxyConfiguration.conntrack.min: Invalid value: -1: must be greater than or equal to 0 (set by FILE line 5)]"
    );
}
