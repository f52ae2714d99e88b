//! Flags that newer ones replace, and those that never did anything here.

use clap::value_parser;

use super::table::flags;
use super::values::{self, Whole};

flags! {
    /// Flags that newer ones replace, and those that never did anything here.
    pub struct DeprecatedFlags in "Deprecated" {
        /// Port of the health server, 0 for none; use --healthz-bind-address
        #[arg(long, value_name = "PORT", value_parser = Whole(value_parser!(u16)))]
        healthz_port: Option<u16> => FlagOnly,
        /// Port of the metrics server, 0 for none; use --metrics-bind-address
        #[arg(long, value_name = "PORT", value_parser = Whole(value_parser!(u16)))]
        metrics_port: Option<u16> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "FILES", hide = true)]
        boot_id_file: Option<String> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "FILES", hide = true)]
        machine_id_file: Option<String> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
        add_dir_header: Option<bool> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
        alsologtostderr: Option<bool> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "FILE:LINE", hide = true)]
        log_backtrace_at: Option<String> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "DIR", hide = true)]
        log_dir: Option<String> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "FILE", hide = true)]
        log_file: Option<String> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "MB", hide = true, value_parser = Whole(value_parser!(u64)))]
        log_file_max_size: Option<u64> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
        logtostderr: Option<bool> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
        one_output: Option<bool> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
        skip_headers: Option<bool> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
        skip_log_headers: Option<bool> => FlagOnly,
        /// Accepted, without effect
        #[arg(long, value_name = "SEVERITY", hide = true)]
        stderrthreshold: Option<String> => FlagOnly,
    }
}

impl DeprecatedFlags {
    /// Those given that would have changed where log lines go or what they look like.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        [
            ("--add-dir-header", self.add_dir_header == Some(true)),
            ("--log-backtrace-at", self.log_backtrace_at.is_some()),
            ("--log-dir", self.log_dir.is_some()),
            ("--log-file", self.log_file.is_some()),
            ("--skip-headers", self.skip_headers == Some(true)),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// Those given that another flag replaces, with that flag.
    pub(crate) fn replaced(&self) -> Vec<(&'static str, &'static str)> {
        [
            ("--healthz-port", "--healthz-bind-address", self.healthz_port.is_some()),
            ("--metrics-port", "--metrics-bind-address", self.metrics_port.is_some()),
        ]
        .into_iter()
        .filter_map(|(old, new, given)| given.then_some((old, new)))
        .collect()
    }
}
