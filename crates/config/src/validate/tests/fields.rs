//! Every field of the configuration in one table: its flag, its default, and a value that it must not have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::flag_fields;
use crate::testing::{Given, file};

/// Field, flag, default as JSON, line that the rest needs, bad value as YAML, part of the message.
/// A field without a bad value is one for which neither the Go version nor this one has a rule, beyond the type.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const FIELDS: &[Row] = &[
    ("bindAddress", "bind-address", r#""0.0.0.0""#, "", "host", "must be a valid IP"),
    ("bindAddressHardFail", "bind-address-hard-fail", "false", "", "", ""),
    ("clientConnection.acceptContentTypes", "", r#""""#, "", "", ""),
    ("clientConnection.burst", "kube-api-burst", "10", "", "-1", "must be greater than or equal to 0"),
    ("clientConnection.contentType", "kube-api-content-type", r#""application/vnd.kubernetes.protobuf""#, "", "", ""),
    ("clientConnection.kubeconfig", "kubeconfig", r#""""#, "", "", ""),
    ("clientConnection.qps", "kube-api-qps", "5.0", "", "", ""),
    ("clusterCIDR", "cluster-cidr", r#""""#, "", "10.0.0.0/8,11.0.0.0/8", "a dual-stack pair"),
    ("configSyncPeriod", "config-sync-period", r#""15m0s""#, "", "-1s", "must be greater than 0"),
    ("conntrack.maxPerCore", "conntrack-max-per-core", "32768", "", "-1", "must be greater than or equal to 0"),
    ("conntrack.min", "conntrack-min", "131072", "", "-1", "must be greater than or equal to 0"),
    ("conntrack.tcpBeLiberal", "conntrack-tcp-be-liberal", "false", "", "", ""),
    ("conntrack.tcpCloseWaitTimeout", "conntrack-tcp-timeout-close-wait", r#""1h0m0s""#, "", "-1s", "must be greater than or equal to 0"),
    ("conntrack.tcpEstablishedTimeout", "conntrack-tcp-timeout-established", r#""24h0m0s""#, "", "-1s", "must be greater than or equal to 0"),
    ("conntrack.udpStreamTimeout", "conntrack-udp-timeout-stream", r#""0s""#, "", "-1s", "must be greater than or equal to 0"),
    ("conntrack.udpTimeout", "conntrack-udp-timeout", r#""0s""#, "", "-1s", "must be greater than or equal to 0"),
    ("detectLocal.bridgeInterface", "pod-bridge-interface", r#""""#, "detectLocalMode: BridgeInterface", "''", "must be set when detectLocalMode is BridgeInterface"),
    ("detectLocal.interfaceNamePrefix", "pod-interface-name-prefix", r#""""#, "detectLocalMode: InterfaceNamePrefix", "''", "must be set when detectLocalMode is InterfaceNamePrefix"),
    ("detectLocalMode", "detect-local-mode", r#""ClusterCIDR""#, "", "PodCIDR", "must be ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix, or empty"),
    ("enableProfiling", "profiling", "false", "", "", ""),
    ("featureGates", "feature-gates", "{}", "", "", ""),
    ("healthzBindAddress", "healthz-bind-address", r#""0.0.0.0:10256""#, "", "1.2.3.4:0", "must be a port from 1 to 65535"),
    ("hostnameOverride", "hostname-override", r#""""#, "", "' '", "must not be blank"),
    ("iptables.localhostNodePorts", "iptables-localhost-nodeports", "true", "", "", ""),
    ("iptables.masqueradeAll", "masquerade-all", "false", "", "", ""),
    ("iptables.masqueradeBit", "iptables-masquerade-bit", "14", "", "32", "must be within the range [0, 31]"),
    ("iptables.minSyncPeriod", "iptables-min-sync-period", r#""1s""#, "", "-1s", "must be greater than or equal to 0"),
    ("iptables.syncPeriod", "iptables-sync-period", r#""30s""#, "", "500ms", "must be greater than or equal to iptables.minSyncPeriod, which is 1s"),
    ("ipvs.excludeCIDRs", "ipvs-exclude-cidrs", "[]", "mode: ipvs", "[x]", "must be a valid CIDR"),
    ("ipvs.minSyncPeriod", "ipvs-min-sync-period", r#""0s""#, "mode: ipvs", "1h", "must be greater than or equal to ipvs.minSyncPeriod, which is 1h"),
    ("ipvs.scheduler", "ipvs-scheduler", r#""""#, "mode: ipvs", "", ""),
    ("ipvs.strictARP", "ipvs-strict-arp", "false", "mode: ipvs", "", ""),
    ("ipvs.syncPeriod", "ipvs-sync-period", r#""30s""#, "mode: ipvs", "-1s", "must be greater than 0"),
    ("ipvs.tcpFinTimeout", "ipvs-tcpfin-timeout", r#""0s""#, "mode: ipvs", "-1s", "must be greater than or equal to 0"),
    ("ipvs.tcpTimeout", "ipvs-tcp-timeout", r#""0s""#, "mode: ipvs", "-1s", "must be greater than or equal to 0"),
    ("ipvs.udpTimeout", "ipvs-udp-timeout", r#""0s""#, "mode: ipvs", "-1s", "must be greater than or equal to 0"),
    ("logging.flushFrequency", "log-flush-frequency", r#""5s""#, "", "-1s", "must be greater than 0"),
    ("logging.format", "logging-format", r#""text""#, "", "xml", "must be text or json"),
    ("logging.options.json.infoBufferSize", "log-json-info-buffer-size", r#""0""#, "", "1Ki", "needs feature gate LoggingAlphaOptions"),
    ("logging.options.json.splitStream", "log-json-split-stream", "false", "", "true", "needs feature gate LoggingAlphaOptions"),
    ("logging.options.text.infoBufferSize", "log-text-info-buffer-size", r#""0""#, "", "1Ki", "needs feature gate LoggingAlphaOptions"),
    ("logging.options.text.splitStream", "log-text-split-stream", "false", "", "true", "needs feature gate LoggingAlphaOptions"),
    ("logging.verbosity", "v", "0", "", "2147483648", "must be at most 2147483647"),
    ("logging.vmodule", "vmodule", "[]", "", "[{verbosity: 1}]", "must not be empty"),
    ("metricsBindAddress", "metrics-bind-address", r#""127.0.0.1:10249""#, "", "1.2.3.4:70000", "must be a port from 1 to 65535"),
    ("mode", "proxy-mode", r#""iptables""#, "", "Iptables", "must be one of iptables, ipvs, nftables, userspace, auto, or empty"),
    ("nftables.masqueradeAll", "masquerade-all", "false", "mode: nftables", "", ""),
    ("nftables.masqueradeBit", "", "14", "mode: nftables", "-1", "must be within the range [0, 31]"),
    ("nftables.minSyncPeriod", "iptables-min-sync-period", r#""1s""#, "mode: nftables", "-1s", "must be greater than or equal to 0"),
    ("nftables.syncPeriod", "iptables-sync-period", r#""30s""#, "mode: nftables", "-1s", "must be greater than 0"),
    ("nodePortAddresses", "nodeport-addresses", "[]", "", "[x]", "must be a valid CIDR, \"primary\", \"localhost\" or \"all\""),
    ("oomScoreAdj", "oom-score-adj", "-999", "", "-1001", "must be within the range [-1000, 1000]"),
    ("portRange", "proxy-port-range", r#""""#, "mode: userspace", "9-8", "the last port must not be below the first"),
    ("showHiddenMetricsForVersion", "show-hidden-metrics-for-version", r#""""#, "", "'1.34'", "must be omitted or the previous minor version"),
    ("windowsRunAsService", "", "false", "", "", ""),
    ("winkernel.enableDSR", "", "false", "", "", ""),
    ("winkernel.forwardHealthCheckVip", "", "false", "", "", ""),
    ("winkernel.networkName", "", r#""""#, "", "", ""),
    ("winkernel.rootHnsEndpointName", "", r#""""#, "", "", ""),
    ("winkernel.sourceVip", "", r#""""#, "", "", ""),
];

/// The mode that a row is about, for [`flag_fields`].
fn mode_of(with: &str) -> &str {
    with.strip_prefix("mode: ").unwrap_or_default()
}

/// Every field that holds a value, by its path.
fn leaves(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, all);
            }
        }
        _ => _ = all.insert(path.to_owned()),
    }
}

#[test]
fn every_field_is_in_the_table() {
    let mut all = BTreeSet::new();
    leaves(&serde_json::to_value(file("").configuration).unwrap(), "", &mut all);
    let known = FIELDS.iter().map(|row| row.0).chain(["apiVersion", "kind"]);
    assert_eq!(all, known.map(str::to_owned).collect());
}

#[test]
fn defaults_are_those_of_the_table() {
    for (field, _, default, with, ..) in FIELDS {
        // The name of an interface is required where it has a meaning.
        let body = if mode_of(with).is_empty() { "" } else { with };
        let mut value = serde_json::to_value(file(body).configuration).unwrap();
        let value = value.pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap();
        assert_eq!(value.to_string(), *default, "{field}");
    }
}

#[test]
fn flags_are_those_of_the_table() {
    for (field, flag, _, with, ..) in FIELDS {
        let fields = flag_fields(mode_of(with));
        let found =
            fields.iter().find(|(_, of_flag)| of_flag == field).map(|(flag, _)| flag.as_str());
        assert_eq!(found.unwrap_or_default(), *flag, "{field}");
    }
}

/// The message names the field by its path in the file, and says what is wrong.
fn check(given: &Given<'_>, field: &str, reason: &str) {
    let error = given.error();
    let path = format!("failed validate: KubeProxyConfiguration.{field}");
    assert!(error.starts_with(&path) && error.contains(reason), "{given:?}: {error}");
}

/// The field that is named: a period that is longer than another one is told of the other.
fn named(field: &str) -> &str {
    if field == "ipvs.minSyncPeriod" { "ipvs.syncPeriod" } else { field }
}

#[test]
fn bad_values_in_a_file_are_refused() {
    for (field, _, _, with, bad, reason) in FIELDS.iter().filter(|row| !row.4.is_empty()) {
        let (sections, name) = field.rsplit_once('.').unwrap_or(("", field));
        let mut line = format!("{name}: {bad}");
        for section in sections.rsplit('.').filter(|section| !section.is_empty()) {
            line = format!("{section}: {{{line}}}");
        }
        let body = format!("{with}\n{line}");
        check(&Given { file: Some(&body), ..Given::default() }, named(field), reason);
    }
}

#[test]
fn bad_values_of_flags_are_refused_by_the_path_of_the_field() {
    for (field, flag, _, with, bad, reason) in FIELDS.iter().filter(|row| !row.4.is_empty()) {
        // A blank cannot be among `flags`, and entries of vmodule are no objects there.
        if flag.is_empty() || *bad == "' '" || *field == "logging.vmodule" {
            continue;
        }
        let value = bad.trim_matches(['\'', '[', ']', '{', '}']).replace(": ", "=");
        let with = with.replace("mode: ", "--proxy-mode=");
        let with = with.replace("detectLocalMode: ", "--detect-local-mode=");
        let flags = format!("{with} --{flag}={value}");
        check(&Given { flags: &flags, ..Given::default() }, named(field), reason);
    }
}
