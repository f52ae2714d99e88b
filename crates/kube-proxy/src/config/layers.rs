//! Which field of the configuration each flag sets, and the layers put on top of each other:
//! defaults, then the file, then the environment, then the flags.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;

use super::duration::GoDuration;
use super::flags::{Flags, variable};
use super::types::KubeProxyConfiguration;

/// One flag that was given, or one variable that was set.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The flag, without dashes.
    pub(crate) flag: &'static str,
    /// The field it sets.
    path: &'static str,
    value: Value,
    /// It counts even when a configuration file is given.
    pub(crate) beside_file: bool,
}

/// Where settings come from, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Environment,
    CommandLine,
}

impl Origin {
    fn name(self, flag: &str) -> String {
        match self {
            Self::Environment => format!("environment variable {}", variable(flag)),
            Self::CommandLine if flag == "v" => "flag -v".to_owned(),
            Self::CommandLine => format!("flag --{flag}"),
        }
    }
}

struct Collector {
    settings: Vec<Setting>,
    /// Every flag that sets a field, given or not.
    fields: Vec<(&'static str, &'static str)>,
    beside_file: bool,
}

impl Collector {
    fn set<T: Serialize>(&mut self, flag: &'static str, path: &'static str, value: Option<&T>) {
        self.fields.push((flag, path));
        let Some(value) = value else { return };
        // Flags hold plain values only: these always have a representation.
        if let Ok(value) = Value::serialize(value) {
            self.settings.push(Setting { flag, path, value, beside_file: self.beside_file });
        }
    }

    fn list<T: Serialize>(&mut self, flag: &'static str, path: &'static str, items: &[T]) {
        self.set(flag, path, (!items.is_empty()).then_some(&items));
    }
}

/// The settings that flags make; some depend on the mode.
pub(crate) fn settings(flags: &Flags, mode: &str) -> Vec<Setting> {
    collect(flags, mode).settings
}

/// Every flag that sets a field of the configuration, with the path of the field; some depend on the mode.
pub fn flag_fields(mode: &str) -> Vec<(&'static str, &'static str)> {
    collect(&Flags::default(), mode).fields
}

fn collect(flags: &Flags, mode: &str) -> Collector {
    let mut c = Collector { settings: Vec::new(), fields: Vec::new(), beside_file: false };
    general(&mut c, flags);
    node(&mut c, flags, mode);
    modes(&mut c, flags, mode);
    conntrack(&mut c, flags);
    health(&mut c, flags);
    c.beside_file = true;
    logging(&mut c, flags);
    c.set("hostname-override", "hostnameOverride", flags.general.hostname_override.as_ref());
    c.set("proxy-port-range", "portRange", flags.userspace.proxy_port_range.as_ref());
    c.set("udp-timeout", "udpIdleTimeout", flags.userspace.udp_timeout.as_ref());
    c
}

fn general(c: &mut Collector, flags: &Flags) {
    let general = &flags.general;
    c.set("proxy-mode", "mode", general.proxy_mode.as_ref());
    c.set("bind-address", "bindAddress", general.bind_address.as_ref());
    c.set("oom-score-adj", "oomScoreAdj", general.oom_score_adj.as_ref());
    let gates: BTreeMap<_, _> = general.feature_gates.iter().flatten().cloned().collect();
    c.set("feature-gates", "featureGates", (!gates.is_empty()).then_some(&gates));
    let api = &flags.kubernetes;
    c.set("kubeconfig", "clientConnection.kubeconfig", api.kubeconfig.as_ref());
    c.set(
        "kube-api-content-type",
        "clientConnection.contentType",
        api.kube_api_content_type.as_ref(),
    );
    c.set("kube-api-qps", "clientConnection.qps", api.kube_api_qps.as_ref());
    c.set("kube-api-burst", "clientConnection.burst", api.kube_api_burst.as_ref());
    c.set("config-sync-period", "configSyncPeriod", api.config_sync_period.as_ref());
}

fn node(c: &mut Collector, flags: &Flags, mode: &str) {
    let node = &flags.node;
    c.list("nodeport-addresses", "nodePortAddresses", &without_empty(&node.nodeport_addresses));
    c.set("detect-local-mode", "detectLocalMode", node.detect_local_mode.as_ref());
    c.set("cluster-cidr", "clusterCIDR", node.cluster_cidr.as_ref());
    let bridge = node.pod_bridge_interface.as_ref();
    c.set("pod-bridge-interface", "detectLocal.bridgeInterface", bridge);
    let prefix = node.pod_interface_name_prefix.as_ref();
    c.set("pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", prefix);
    let path = match mode {
        "nftables" => "nftables.masqueradeAll",
        _ => "iptables.masqueradeAll",
    };
    c.set("masquerade-all", path, node.masquerade_all.as_ref());
}

fn modes(c: &mut Collector, flags: &Flags, mode: &str) {
    let iptables = &flags.iptables;
    let bit = iptables.iptables_masquerade_bit.as_ref();
    c.set("iptables-masquerade-bit", "iptables.masqueradeBit", bit);
    let localhost = iptables.iptables_localhost_nodeports.as_ref();
    c.set("iptables-localhost-nodeports", "iptables.localhostNodePorts", localhost);
    let (sync, min) = match mode {
        "nftables" => ("nftables.syncPeriod", "nftables.minSyncPeriod"),
        _ => ("iptables.syncPeriod", "iptables.minSyncPeriod"),
    };
    c.set("iptables-sync-period", sync, iptables.iptables_sync_period.as_ref());
    c.set("iptables-min-sync-period", min, iptables.iptables_min_sync_period.as_ref());

    let ipvs = &flags.ipvs;
    c.set("ipvs-scheduler", "ipvs.scheduler", ipvs.ipvs_scheduler.as_ref());
    c.list("ipvs-exclude-cidrs", "ipvs.excludeCIDRs", &without_empty(&ipvs.ipvs_exclude_cidrs));
    c.set("ipvs-strict-arp", "ipvs.strictARP", ipvs.ipvs_strict_arp.as_ref());
    c.set("ipvs-tcp-timeout", "ipvs.tcpTimeout", ipvs.ipvs_tcp_timeout.as_ref());
    c.set("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", ipvs.ipvs_tcpfin_timeout.as_ref());
    c.set("ipvs-udp-timeout", "ipvs.udpTimeout", ipvs.ipvs_udp_timeout.as_ref());
    c.set("ipvs-sync-period", "ipvs.syncPeriod", ipvs.ipvs_sync_period.as_ref());
    c.set("ipvs-min-sync-period", "ipvs.minSyncPeriod", ipvs.ipvs_min_sync_period.as_ref());
}

fn conntrack(c: &mut Collector, flags: &Flags) {
    let flags = &flags.conntrack;
    let max = flags.conntrack_max_per_core.as_ref();
    c.set("conntrack-max-per-core", "conntrack.maxPerCore", max);
    c.set("conntrack-min", "conntrack.min", flags.conntrack_min.as_ref());
    c.set(
        "conntrack-tcp-timeout-established",
        "conntrack.tcpEstablishedTimeout",
        flags.conntrack_tcp_timeout_established.as_ref(),
    );
    c.set(
        "conntrack-tcp-timeout-close-wait",
        "conntrack.tcpCloseWaitTimeout",
        flags.conntrack_tcp_timeout_close_wait.as_ref(),
    );
    let liberal = flags.conntrack_tcp_be_liberal.as_ref();
    c.set("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", liberal);
    let udp = flags.conntrack_udp_timeout.as_ref();
    c.set("conntrack-udp-timeout", "conntrack.udpTimeout", udp);
    let stream = flags.conntrack_udp_timeout_stream.as_ref();
    c.set("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", stream);
}

fn health(c: &mut Collector, flags: &Flags) {
    let health = &flags.health;
    c.set("healthz-bind-address", "healthzBindAddress", health.healthz_bind_address.as_ref());
    c.set("metrics-bind-address", "metricsBindAddress", health.metrics_bind_address.as_ref());
    c.set("bind-address-hard-fail", "bindAddressHardFail", health.bind_address_hard_fail.as_ref());
    c.set("profiling", "enableProfiling", health.profiling.as_ref());
    c.set(
        "show-hidden-metrics-for-version",
        "showHiddenMetricsForVersion",
        health.show_hidden_metrics_for_version.as_ref(),
    );
}

fn logging(c: &mut Collector, flags: &Flags) {
    let logging = &flags.logging;
    c.set("v", "logging.verbosity", logging.v.as_ref());
    let vmodule: Vec<_> = logging.vmodule.iter().flatten().collect();
    c.list("vmodule", "logging.vmodule", &vmodule);
    c.set("logging-format", "logging.format", logging.logging_format.as_ref());
    let flush = logging.log_flush_frequency.as_ref();
    c.set("log-flush-frequency", "logging.flushFrequency", flush);
    let split = logging.log_text_split_stream.as_ref();
    c.set("log-text-split-stream", "logging.options.text.splitStream", split);
    let size = logging.log_text_info_buffer_size.as_ref();
    c.set("log-text-info-buffer-size", "logging.options.text.infoBufferSize", size);
    let split = logging.log_json_split_stream.as_ref();
    c.set("log-json-split-stream", "logging.options.json.splitStream", split);
    let size = logging.log_json_info_buffer_size.as_ref();
    c.set("log-json-info-buffer-size", "logging.options.json.infoBufferSize", size);
}

/// Of a comma list: `--flag=` means an empty list.
fn without_empty(items: &[String]) -> Vec<&str> {
    items.iter().map(|item| item.trim()).filter(|item| !item.is_empty()).collect()
}

/// A dictionary under a name.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// The name of the layer below all others.
pub(crate) const DEFAULTS: &str = "defaults";
/// The name of the layer that the configuration file makes.
pub(crate) const FILE: &str = "file";

/// The defaults with the file, if there is one, on top.
pub(crate) fn base(defaults: &KubeProxyConfiguration, file: Option<Dict>) -> Figment {
    let dict = match Value::serialize(defaults) {
        Ok(Value::Dict(_, dict)) => dict,
        _ => Dict::new(),
    };
    let base = Figment::from(Layer { name: DEFAULTS.to_owned(), dict });
    match file {
        Some(dict) => base.merge(Layer { name: FILE.to_owned(), dict }),
        None => base,
    }
}

/// Puts settings on top, each as a layer of its own so that messages can name it.
pub(crate) fn overlay(base: Figment, settings: &[Setting], origin: Origin) -> Figment {
    settings.iter().fold(base, |figment, setting| {
        let mut value = setting.value.clone();
        if setting.path == "logging.vmodule" {
            // Entries gather; those that are more explicit come first, and the first match counts.
            if let (Value::Array(_, items), Ok(Value::Array(_, below))) =
                (&mut value, figment.find_value(setting.path))
            {
                items.extend(below);
            }
        }
        let dict = figment::util::nest(setting.path, value).into_dict().unwrap_or_default();
        figment.merge(Layer { name: origin.name(setting.flag), dict })
    })
}

/// Fields whose zero value in a file means that they are not set.
pub(crate) const ZERO_MEANS_UNSET: &[&str] = &[
    "bindAddress",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "configSyncPeriod",
    "detectLocalMode",
    "healthzBindAddress",
    "iptables.minSyncPeriod",
    "iptables.syncPeriod",
    "ipvs.syncPeriod",
    "logging.flushFrequency",
    "logging.format",
    "metricsBindAddress",
    "mode",
    "nftables.minSyncPeriod",
    "nftables.syncPeriod",
];

/// Removes the fields of a file that count as not set.
pub(crate) fn drop_unset(dict: &mut Dict) {
    for path in ZERO_MEANS_UNSET {
        let (section, field) = path.rsplit_once('.').unwrap_or(("", path));
        let fields = match section {
            "" => Some(&mut *dict),
            _ => match dict.get_mut(section) {
                Some(Value::Dict(_, fields)) => Some(fields),
                _ => None,
            },
        };
        if let Some(fields) = fields
            && fields.get(field).is_some_and(is_zero)
        {
            fields.remove(field);
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(_, text) => {
            text.is_empty() || text.parse::<GoDuration>() == Ok(GoDuration::ZERO)
        }
        Value::Num(_, number) => {
            number.to_i128() == Some(0)
                || number.to_u128() == Some(0)
                || number.to_f64() == Some(0.0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
