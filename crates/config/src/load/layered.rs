//! The configuration out of its layers, and which layer set what.

use figment::Figment;
use figment::value::Value;

use super::file::{File, decode_error};
use crate::address::{parse_ip, with_port};
use kube_proxy_yaml::Node;

use crate::document::{self, Problem};
use crate::duration::GoDuration;
use crate::error::ConfigError;
use crate::flags::Flags;
use crate::layers::{self, DEFAULTS, FILE, Origin, Setting};
use crate::mode::{AUTO, DISABLED, Mode, ModeChoice, ModeOrigin, PRIMARY, detect_local};
use crate::types::KubeProxyConfiguration;
use crate::validate::{FieldError, validate};

/// What a configuration is made of.
pub(super) struct Layers {
    pub(super) cli: Flags,
    pub(super) env: Flags,
    pub(super) file: Option<File>,
}

impl Layers {
    /// The flags of the command line that count.
    fn counting(&self, mode: &str) -> Vec<Setting> {
        let mut settings = layers::settings(&self.cli, mode);
        settings.retain(|setting| setting.beside_file || self.file.is_none());
        settings
    }

    fn layered(&self, defaults: &KubeProxyConfiguration, mode: &str) -> Figment {
        let file = self.file.as_ref().map(|file| {
            let mut fields = document::known_fields(&file.root);
            layers::drop_unset(&mut fields);
            fields
        });
        let base = layers::base(defaults, file);
        let env = layers::settings(&self.env, mode);
        let figment = layers::overlay(base, &env, Origin::Environment);
        layers::overlay(figment, &self.counting(mode), Origin::CommandLine)
    }

    /// The configuration with all defaults, and the layers it was made of.
    pub(super) fn configuration(
        &self,
        choose_mode: &dyn Fn() -> ModeChoice,
    ) -> Result<(KubeProxyConfiguration, Figment, ModeOrigin), ConfigError> {
        let mut defaults = KubeProxyConfiguration::default();
        let first = self.layered(&defaults, "");
        let text = |field: &str| {
            let value = first.find_value(field).ok().and_then(Value::into_string);
            value.unwrap_or_default()
        };
        if parse_ip(&text("bindAddress")).is_some_and(|ip| ip.is_ipv6()) {
            "[::]:10256".clone_into(&mut defaults.healthz_bind_address);
            "[::1]:10249".clone_into(&mut defaults.metrics_bind_address);
        }
        if self.file.is_none() {
            defaults.ipvs.min_sync_period = GoDuration::from_secs(1);
        }
        let named = text("mode");
        let (mode, origin) = match named.as_str() {
            AUTO => {
                let choice = choose_mode();
                (choice.mode.name().to_owned(), ModeOrigin::Chosen(choice.reason))
            }
            "" => (named, ModeOrigin::Default),
            _ if set_by(&first, "mode").is_none_or(|name| name == DEFAULTS) => {
                (named, ModeOrigin::Default)
            }
            _ => (named, ModeOrigin::Named),
        };
        let figment = self.layered(&defaults, &mode);
        let mut config: KubeProxyConfiguration =
            figment.extract().map_err(|error| self.extraction_error(&error))?;
        if config.mode == AUTO {
            config.mode = mode;
        }
        self.complete(&mut config, &figment);
        Ok((config, figment, origin))
    }

    fn extraction_error(&self, error: &figment::Error) -> ConfigError {
        let node = self.file.as_ref().and_then(|file| file.root.find(&error.path));
        let at = node.and_then(Node::place);
        let path = self.file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
        let field = yaml_path(&error.path);
        decode_error(&path, &field, Problem { at, reason: error.kind.to_string() })
    }

    /// Fills in what depends on other fields or on how a field was set.
    fn complete(&self, config: &mut KubeProxyConfiguration, figment: &Figment) {
        if config.mode.is_empty() {
            Mode::Iptables.name().clone_into(&mut config.mode);
        }
        if config.detect_local_mode.is_empty() {
            detect_local::CLUSTER_CIDR.clone_into(&mut config.detect_local_mode);
        }
        if config.mode == Mode::Nftables.name() && config.node_port_addresses.is_empty() {
            config.node_port_addresses = vec![PRIMARY.to_owned()];
        }
        if config.client_connection.content_type.is_empty() {
            // Only a flag can say so; this is what a client without a content type sends.
            "application/json".clone_into(&mut config.client_connection.content_type);
        }
        let by_default = |field| set_by(figment, field).is_none_or(|name| name == DEFAULTS);
        let (old, env) = (&self.cli.deprecated, &self.env.deprecated);
        let counts = |port: Option<u16>| port.filter(|_| self.file.is_none());
        server_address(
            &mut config.healthz_bind_address,
            counts(old.healthz_port).or(env.healthz_port),
            by_default("healthzBindAddress"),
            10256,
        );
        server_address(
            &mut config.metrics_bind_address,
            counts(old.metrics_port).or(env.metrics_port),
            by_default("metricsBindAddress"),
            10249,
        );
    }

    /// What is wrong with it, and what set that.
    pub(super) fn errors(
        &self,
        config: &KubeProxyConfiguration,
        figment: &Figment,
    ) -> Vec<FieldError> {
        let mut errors = validate(config);
        for error in &mut errors {
            let keys: Vec<String> = error
                .path
                .split(['.', '[', ']'])
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect();
            // A list is set as a whole.
            let field = error.path.split('[').next().unwrap_or_default();
            error.origin = match (set_by(figment, field), &self.file) {
                (Some(name), Some(file)) if name == FILE => {
                    let line = file.root.nearest(&keys).line;
                    Some(format!("{} line {line}", file.path.display()))
                }
                (Some(name), _) if name != DEFAULTS => Some(name),
                _ => None,
            };
        }
        errors
    }
}

/// Field names joined by dots, list positions in brackets.
fn yaml_path(parts: &[String]) -> String {
    parts.iter().fold(String::new(), |path, part| match part.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) if path.is_empty() => part.clone(),
        Err(_) => format!("{path}.{part}"),
    })
}

/// The name of the layer that set a field.
fn set_by(figment: &Figment, field: &str) -> Option<String> {
    figment.find_metadata(field).map(|metadata| metadata.name.to_string())
}

/// Works out a server's address from the field and from the deprecated port flag.
fn server_address(address: &mut String, port: Option<u16>, by_default: bool, default_port: u16) {
    if port == Some(0) || address.is_empty() {
        // In a file empty means the default, so an empty address was asked for by a flag.
        DISABLED.clone_into(address);
    } else if let (Some(port), true) = (port, by_default) {
        let host = address.rsplit_once(':').map_or("", |(host, _)| host);
        *address = format!("{host}:{port}");
    } else {
        *address = with_port(address, port.unwrap_or(default_port));
    }
}
