//! What to do, where settings come from, and what is logged.

use std::path::PathBuf;

use clap::value_parser;

use super::table::flags;
use super::values::{self, CompletionShell, VersionFormat, Whole};
use crate::duration::GoDuration;
use crate::quantity::Quantity;
use crate::types::VModule;

flags! {
    /// What to do and where settings come from.
    pub struct GeneralFlags in "General" {
        /// Configuration file (KubeProxyConfiguration, YAML or JSON); replaces the flags it covers
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf> => FlagOnly,
        /// Writes the effective configuration as YAML to this file and exits
        #[arg(long, value_name = "FILE")]
        write_config_to: Option<PathBuf> => FlagOnly,
        /// iptables, ipvs, nftables, userspace, or auto: nftables where kernel and firewall fit, else iptables
        #[arg(long, value_name = "MODE")]
        proxy_mode: Option<String> = "iptables" => Field("mode"),
        /// Reads Services, EndpointSlices and Nodes from this file or directory, and follows its changes, instead of asking an API server
        #[arg(long, value_name = "PATH")]
        manifests: Option<PathBuf> => FlagOnly added,
        /// Node name
        #[arg(long, value_name = "NAME")]
        hostname_override: Option<String> = "the host name" => FieldBesideFile("hostnameOverride"),
        /// The node's address; its family is the primary one. Unspecified (0.0.0.0 or ::) takes the address of the Node object, in that family
        #[arg(long, value_name = "IP")]
        bind_address: Option<String> = "0.0.0.0" => Field("bindAddress"),
        /// Turns features on or off
        #[arg(long, value_name = "NAME=BOOL,...", value_delimiter = ',', value_parser = values::feature_gate)]
        feature_gates: Vec<Option<(String, bool)>> => Field("featureGates"),
        /// OOM score adjustment of this process, -1000 to 1000
        #[arg(long, value_name = "N", value_parser = Whole(value_parser!(i32)))]
        oom_score_adj: Option<i32> = "-999" => Field("oomScoreAdj"),
        /// Sets the connection tracking limits, which needs full privileges, then exits
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        init_only: Option<bool> => FlagOnly,
        /// Removes everything that any mode has put on the node, then exits
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        cleanup: Option<bool> => FlagOnly,
        /// Prints a completion script for this shell and exits
        #[arg(long, value_enum, value_name = "SHELL")]
        completion: Option<CompletionShell> => Prints added,
        /// Prints the manual page (roff) and exits
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        man: Option<bool> => Prints added,
        /// Prints the version and exits
        #[arg(long, value_name = "BOOL|raw", value_parser = values::version)]
        version: Option<VersionFormat> => Prints,
        /// Prints this text and exits
        #[arg(long, short = 'h', action = clap::ArgAction::HelpShort)]
        help: Option<bool> => Prints,
    }
}

flags! {
    /// How to reach the API server.
    pub struct KubernetesFlags in "Kubernetes API" {
        /// Kubeconfig file; without it and --master, the service account of the pod
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<String> => Field("clientConnection.kubeconfig"),
        /// Address of the API server, overrides that of the kubeconfig
        #[arg(long, value_name = "URL")]
        master: Option<String> => FlagOnly,
        /// What the API server is asked for: application/vnd.kubernetes.protobuf, with JSON behind it, or application/json
        #[arg(long, value_name = "TYPE")]
        kube_api_content_type: Option<String> = "application/vnd.kubernetes.protobuf" => Field("clientConnection.contentType"),
        /// Requests per second
        #[arg(long, value_name = "N")]
        kube_api_qps: Option<f32> = "5" => Field("clientConnection.qps"),
        /// Requests that may exceed the rate at once
        #[arg(long, value_name = "N", value_parser = Whole(value_parser!(i32)))]
        kube_api_burst: Option<i32> = "10" => Field("clientConnection.burst"),
        /// Accepted, without effect: nothing is re-read without a reason
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        config_sync_period: Option<GoDuration> = "15m" => Field("configSyncPeriod"),
    }
}

flags! {
    /// Logging.
    pub struct LoggingFlags in "Logging" {
        /// Verbosity: 0 least, 2 usual, 4 debugging, 6 everything
        #[arg(long, short = 'v', value_name = "N", value_parser = Whole(value_parser!(u32)))]
        v: Option<u32> = "0" => FieldBesideFile("logging.verbosity"),
        /// Verbosity by module, text format only
        #[arg(long, value_name = "PATTERN=N,...", value_delimiter = ',', value_parser = values::vmodule)]
        vmodule: Vec<Option<VModule>> => FieldBesideFile("logging.vmodule"),
        /// text or json
        #[arg(long, value_name = "FORMAT")]
        logging_format: Option<String> = "text" => FieldBesideFile("logging.format"),
        /// Longest time a line is buffered
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        log_flush_frequency: Option<GoDuration> = "5s" => FieldBesideFile("logging.flushFrequency"),
        /// Text format: errors to standard error, the rest to standard output
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        log_text_split_stream: Option<bool> => FieldBesideFile("logging.options.text.splitStream"),
        /// Text format: buffer of the standard output when split
        #[arg(long, value_name = "SIZE")]
        log_text_info_buffer_size: Option<Quantity> => FieldBesideFile("logging.options.text.infoBufferSize"),
        /// JSON format: errors to standard error, the rest to standard output
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        log_json_split_stream: Option<bool> => FieldBesideFile("logging.options.json.splitStream"),
        /// JSON format: buffer of the standard output when split
        #[arg(long, value_name = "SIZE")]
        log_json_info_buffer_size: Option<Quantity> => FieldBesideFile("logging.options.json.infoBufferSize"),
    }
}
