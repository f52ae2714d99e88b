//! The rules a configuration must keep, all checked, with every violation reported at once.

use std::fmt;

use super::address::{parse_cidr, parse_ip, parse_ip_port};
use super::duration::GoDuration;
use super::gates::FeatureGates;
use super::mode::{ALL, DISABLED, LOCALHOST, Mode, PRIMARY, detect_local};
use super::types::{KIND, KubeProxyConfiguration, Logging, OutputRouting};
use super::userspace_ports;

/// The minor version of Kubernetes whose kube-proxy this one stands in for.
pub const KUBERNETES_MINOR: u32 = 36;

/// A field whose value breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where it is in the configuration file, for example `iptables.masqueradeBit`.
    pub path: String,
    /// The value, strings in quotes.
    pub value: String,
    /// The rule.
    pub reason: String,
    /// What set the value: a flag, an environment variable or a line of the file.
    pub origin: Option<String>,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}.{}: Invalid value: {}: {}", self.path, self.value, self.reason)?;
        match &self.origin {
            Some(origin) => write!(f, " (set by {origin})"),
            None => Ok(()),
        }
    }
}

/// Gathers what is wrong.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, path: &str, value: impl fmt::Display, reason: impl Into<String>) {
        let (path, value) = (path.to_owned(), value.to_string());
        self.0.push(FieldError { path, value, reason: reason.into(), origin: None });
    }

    fn text(&mut self, path: &str, value: &str, reason: impl Into<String>) {
        self.add(path, format!("{value:?}"), reason);
    }

    fn within(&mut self, path: &str, value: Option<i32>, low: i32, high: i32) {
        if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
            self.add(path, value, format!("must be within the range [{low}, {high}]"));
        }
    }

    fn not_negative(&mut self, path: &str, value: impl Into<i64> + fmt::Display + Copy) {
        if value.into() < 0 {
            self.add(path, value, "must be greater than or equal to 0");
        }
    }

    fn positive(&mut self, path: &str, value: GoDuration) {
        if value <= GoDuration::ZERO {
            self.add(path, value, "must be greater than 0");
        }
    }
}

impl From<GoDuration> for i64 {
    fn from(duration: GoDuration) -> Self {
        duration.0
    }
}

/// Checks a configuration that has its defaults filled in.
pub(crate) fn validate(config: &KubeProxyConfiguration) -> Vec<FieldError> {
    let mut errors = Errors::default();
    general(config, &mut errors);
    addresses(config, &mut errors);
    mode(config, &mut errors);
    conntrack(config, &mut errors);
    local_traffic(config, &mut errors);
    node_port_addresses(&config.node_port_addresses, &mut errors);
    logging(&config.logging, &FeatureGates::resolve(&config.feature_gates), &mut errors);
    errors.0
}

fn general(config: &KubeProxyConfiguration, errors: &mut Errors) {
    errors.not_negative("clientConnection.burst", config.client_connection.burst);
    let qps = config.client_connection.qps;
    if !qps.is_finite() {
        errors.add("clientConnection.qps", qps, "must be a finite number");
    }
    errors.positive("configSyncPeriod", config.config_sync_period);
    errors.within("oomScoreAdj", config.oom_score_adj, -1000, 1000);
    let name = &config.hostname_override;
    if !name.is_empty() && name.trim().is_empty() {
        errors.text("hostnameOverride", name, "must not be blank");
    }
    let previous = format!("1.{}", KUBERNETES_MINOR - 1);
    let shown = &config.show_hidden_metrics_for_version;
    if !shown.is_empty() && *shown != previous {
        let reason = format!("must be omitted or the previous minor version, {previous}");
        errors.text("showHiddenMetricsForVersion", shown, reason);
    }
}

fn addresses(config: &KubeProxyConfiguration, errors: &mut Errors) {
    if parse_ip(&config.bind_address).is_none() {
        errors.text("bindAddress", &config.bind_address, "must be a valid IP");
    }
    let servers = [
        ("healthzBindAddress", &config.healthz_bind_address),
        ("metricsBindAddress", &config.metrics_bind_address),
    ];
    for (path, address) in servers {
        if address == DISABLED {
            continue;
        }
        if let Err(reason) = parse_ip_port(address) {
            errors.text(path, address, reason);
        }
    }
}

fn mode(config: &KubeProxyConfiguration, errors: &mut Errors) {
    errors.within("iptables.masqueradeBit", config.iptables.masquerade_bit, 0, 31);
    let Some(mode) = Mode::parse(&config.mode) else {
        let names = Mode::ALL.map(Mode::name).join(", ");
        errors.text("mode", &config.mode, format!("must be one of {names}, auto, or empty"));
        return;
    };
    let (sync, min) = periods(config, mode);
    let section = mode.section();
    let (sync_path, min_path) =
        (format!("{section}.syncPeriod"), format!("{section}.minSyncPeriod"));
    errors.positive(&sync_path, sync);
    errors.not_negative(&min_path, min);
    if sync > GoDuration::ZERO && sync < min {
        let reason = format!("must be greater than or equal to {min_path}, which is {min}");
        errors.add(&sync_path, sync, reason);
    }
    match mode {
        Mode::Ipvs => ipvs(config, errors),
        Mode::Nftables => {
            errors.within("nftables.masqueradeBit", config.nftables.masquerade_bit, 0, 31);
        }
        Mode::Userspace => {
            if let Err(reason) = userspace_ports::parse(&config.port_range) {
                errors.text("portRange", &config.port_range, reason);
            }
            errors.not_negative("udpIdleTimeout", config.udp_idle_timeout);
        }
        Mode::Iptables => {}
    }
}

/// `syncPeriod` and `minSyncPeriod` of a mode.
pub(crate) fn periods(config: &KubeProxyConfiguration, mode: Mode) -> (GoDuration, GoDuration) {
    match mode {
        Mode::Iptables | Mode::Userspace => {
            (config.iptables.sync_period, config.iptables.min_sync_period)
        }
        Mode::Ipvs => (config.ipvs.sync_period, config.ipvs.min_sync_period),
        Mode::Nftables => (config.nftables.sync_period, config.nftables.min_sync_period),
    }
}

fn ipvs(config: &KubeProxyConfiguration, errors: &mut Errors) {
    let ipvs = &config.ipvs;
    errors.not_negative("ipvs.tcpTimeout", ipvs.tcp_timeout);
    errors.not_negative("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout);
    errors.not_negative("ipvs.udpTimeout", ipvs.udp_timeout);
    for (index, cidr) in ipvs.exclude_cidrs.iter().enumerate() {
        if parse_cidr(cidr).is_none() {
            errors.text(&format!("ipvs.excludeCIDRs[{index}]"), cidr, "must be a valid CIDR");
        }
    }
}

fn conntrack(config: &KubeProxyConfiguration, errors: &mut Errors) {
    let conntrack = &config.conntrack;
    for (path, value) in
        [("conntrack.maxPerCore", conntrack.max_per_core), ("conntrack.min", conntrack.min)]
    {
        errors.not_negative(path, value.unwrap_or_default());
    }
    for (path, value) in [
        ("conntrack.tcpEstablishedTimeout", conntrack.tcp_established_timeout),
        ("conntrack.tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout),
        ("conntrack.udpTimeout", Some(conntrack.udp_timeout)),
        ("conntrack.udpStreamTimeout", Some(conntrack.udp_stream_timeout)),
    ] {
        errors.not_negative(path, value.unwrap_or_default());
    }
}

fn local_traffic(config: &KubeProxyConfiguration, errors: &mut Errors) {
    let required = |errors: &mut Errors, path, value: &str| {
        if value.is_empty() {
            let mode = &config.detect_local_mode;
            errors.text(path, value, format!("must be set when detectLocalMode is {mode}"));
        }
    };
    let names = &config.detect_local;
    match config.detect_local_mode.as_str() {
        detect_local::CLUSTER_CIDR => cluster_cidr(&config.cluster_cidr, errors),
        detect_local::NODE_CIDR => {}
        detect_local::BRIDGE => {
            required(errors, "detectLocal.bridgeInterface", &names.bridge_interface);
        }
        detect_local::INTERFACE_PREFIX => {
            required(errors, "detectLocal.interfaceNamePrefix", &names.interface_name_prefix);
        }
        other => {
            let reason =
                "must be ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix, or empty";
            errors.text("detectLocalMode", other, reason);
        }
    }
}

fn cluster_cidr(text: &str, errors: &mut Errors) {
    if text.is_empty() {
        return;
    }
    let parsed: Vec<_> = text.split(',').map(|cidr| parse_cidr(cidr.trim())).collect();
    if parsed.iter().any(Option::is_none) {
        errors.text("clusterCIDR", text, "must be a valid CIDR, or two separated by a comma");
        return;
    }
    let four = parsed.iter().flatten().filter(|net| net.addr().is_ipv4()).count();
    let pair = parsed.len() == 2 && four == 1;
    if parsed.len() != 1 && !pair {
        let reason = "must be one CIDR, or an IPv4 and an IPv6 CIDR (a dual-stack pair)";
        errors.text("clusterCIDR", text, reason);
    }
}

fn node_port_addresses(addresses: &[String], errors: &mut Errors) {
    for (index, address) in addresses.iter().enumerate() {
        let path = format!("nodePortAddresses[{index}]");
        let keyword = [PRIMARY, LOCALHOST, ALL].contains(&address.as_str());
        if !keyword && parse_cidr(address).is_none() {
            let reason = "must be a valid CIDR, \"primary\", \"localhost\" or \"all\"";
            errors.text(&path, address, reason);
        }
    }
}

fn logging(logging: &Logging, gates: &FeatureGates, errors: &mut Errors) {
    match logging.format.as_str() {
        "text" => {}
        "json" => {
            if !gates.enabled("LoggingBetaOptions") {
                let reason = "needs feature gate LoggingBetaOptions, which is off";
                errors.text("logging.format", "json", reason);
            }
            if !logging.vmodule.is_empty() {
                let patterns: Vec<_> =
                    logging.vmodule.iter().map(|entry| entry.file_pattern.as_str()).collect();
                let reason = "only the text format can do this";
                errors.text("logging.vmodule", &patterns.join(","), reason);
            }
        }
        other => errors.text("logging.format", other, "must be text or json"),
    }
    errors.positive("logging.flushFrequency", logging.flush_frequency);
    verbosity("logging.verbosity", logging.verbosity, errors);
    for (index, entry) in logging.vmodule.iter().enumerate() {
        let path = format!("logging.vmodule[{index}]");
        if entry.file_pattern.is_empty() || entry.file_pattern.contains(['=', ',']) {
            let reason = "must not be empty, nor hold an equals sign or a comma";
            errors.text(&format!("{path}.filePattern"), &entry.file_pattern, reason);
        }
        verbosity(&format!("{path}.verbosity"), entry.verbosity, errors);
    }
    if !gates.enabled("LoggingAlphaOptions") {
        for (name, options) in [("text", &logging.options.text), ("json", &logging.options.json)] {
            alpha_options(name, options, errors);
        }
    }
}

fn verbosity(path: &str, value: u32, errors: &mut Errors) {
    if i32::try_from(value).is_err() {
        errors.add(path, value, "must be at most 2147483647");
    }
}

fn alpha_options(name: &str, options: &OutputRouting, errors: &mut Errors) {
    let reason = "needs feature gate LoggingAlphaOptions, which is off";
    if options.split_stream {
        errors.add(&format!("logging.options.{name}.splitStream"), true, reason);
    }
    let size = &options.info_buffer_size;
    if !size.is_zero() {
        errors.text(&format!("logging.options.{name}.infoBufferSize"), &size.to_string(), reason);
    }
}

#[cfg(test)]
mod tests;
