//! From command line, environment and file to the configuration that counts.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::Value;

use super::address::{parse_ip, with_port};
use super::document::{self, Node, Problem};
use super::duration::GoDuration;
use super::effective::{Beside, Effective};
use super::error::ConfigError;
use super::flags::{self, Flags, VersionFormat};
use super::layers::{self, DEFAULTS, FILE, Origin, Setting};
use super::mode::{DISABLED, Mode, PRIMARY, detect_local};
use super::types::KubeProxyConfiguration;
use super::validate::{FieldError, validate};

mod page;

/// Enough for the services of a small cluster, and a cost that a large one does not notice.
const SERVICE_METRICS_LIMIT: u32 = 100;

/// What the process was started with. A struct so that tests can say it.
pub struct Start<'a> {
    /// The command line, with the program's name first.
    pub args: Vec<OsString>,
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The host name of the machine.
    pub host_name: &'a dyn Fn() -> io::Result<String>,
}

impl Start<'static> {
    /// This process.
    pub fn of_process() -> Self {
        Self {
            args: std::env::args_os().collect(),
            variable: &|name| std::env::var(name).ok(),
            host_name: &host_name,
        }
    }
}

fn host_name() -> io::Result<String> {
    let name = nix::unistd::gethostname().map_err(io::Error::from)?;
    name.into_string().map_err(|_| io::Error::other("the host name is not valid UTF-8"))
}

/// What the process is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Print the version and exit.
    Version(VersionFormat),
    /// Print this text and exit: help, a completion script or the manual page.
    Print(String),
    /// Everything that needs a configuration.
    Configured(Box<Loaded>),
}

/// A task that needs a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Be a proxy.
    Run,
    /// Do the privileged set-up and exit.
    InitOnly,
    /// Remove everything from the node and exit.
    Cleanup,
    /// Write the configuration to this file and exit.
    WriteConfig(PathBuf),
}

/// A configuration that was loaded and is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What to do with it.
    pub task: Task,
    /// The settings, parsed.
    pub effective: Effective,
    /// The settings in the form of the file, for `--write-config-to` and `/configz`.
    pub configuration: KubeProxyConfiguration,
    /// The file it came from, to be watched for changes.
    pub config_file: Option<PathBuf>,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
    /// Every flag with the value that counts, by name.
    pub flags: Vec<(String, String)>,
}

/// Loads the configuration: defaults, under the file, under the environment, under the flags.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(start: &Start<'_>) -> Result<Command, ConfigError> {
    let cli = match flags::parse(start.args.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            return Ok(Command::Print(error.to_string()));
        }
        Err(error) => return Err(ConfigError::Usage(error.to_string().trim_end().to_owned())),
    };
    match cli.general.version {
        None | Some(VersionFormat::None) => {}
        Some(format) => return Ok(Command::Version(format)),
    }
    if let Some(shell) = cli.general.completion {
        return Ok(Command::Print(flags::completion(shell)));
    }
    if cli.general.man == Some(true) {
        let page = flags::manual().map_err(|error| ConfigError::Encode(error.to_string()))?;
        return Ok(Command::Print(page));
    }
    let env = flags::parse_environment(start.variable)?;
    let path = cli.general.config.clone().or_else(|| env.general.config.clone());
    let file = match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => Some(File::read(path)?),
        None => None,
    };
    let mut loader = Loader { cli, env, file, warnings: Vec::new() };
    loader.warn();
    let (configuration, figment) = loader.configuration()?;
    let errors = loader.validate(&configuration, &figment);
    if !errors.is_empty() {
        return Err(ConfigError::Invalid(errors));
    }
    let node_name = node_name(&configuration.hostname_override, start.host_name)?;
    let effective = Effective::new(&configuration, loader.beside(), node_name);
    Ok(Command::Configured(Box::new(Loaded {
        task: loader.task(),
        // Validation covers everything the conversion can fail on; should the two ever disagree, this says so.
        effective: effective.ok_or_else(|| ConfigError::Invalid(Vec::new()))?,
        flags: page::flags(start, &configuration),
        configuration,
        config_file: loader.file.map(|file| file.path),
        warnings: loader.warnings,
    })))
}

fn node_name(
    wanted: &str,
    host_name: &dyn Fn() -> io::Result<String>,
) -> Result<String, ConfigError> {
    let name = match wanted.trim() {
        "" => host_name().map_err(ConfigError::HostName)?,
        name => name.to_owned(),
    };
    match name.trim() {
        "" => Err(ConfigError::HostName(io::Error::other("the host name is empty"))),
        name => Ok(name.to_lowercase()),
    }
}

/// A configuration file that was read.
struct File {
    path: PathBuf,
    root: Node,
}

impl File {
    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        match document::parse(&text) {
            Ok(root) => Ok(Self { path, root }),
            Err(problem) => Err(decode_error(&path, "", problem)),
        }
    }
}

fn decode_error(path: &Path, field: &str, problem: Problem) -> ConfigError {
    ConfigError::Decode {
        path: path.to_owned(),
        at: problem.at,
        field: field.to_owned(),
        reason: problem.reason,
    }
}

struct Loader {
    cli: Flags,
    env: Flags,
    file: Option<File>,
    warnings: Vec<String>,
}

impl Loader {
    fn warn(&mut self) {
        if let Some(file) = &self.file {
            let ignored = file.root.strict_errors();
            if !ignored.is_empty() {
                self.warnings.push(format!(
                    "{}: using lenient decoding, since strict decoding failed: {}",
                    file.path.display(),
                    ignored.join(", ")
                ));
            }
            self.warn_of_overruled_flags();
        }
        let inert = [self.cli.deprecated.without_effect(), self.env.deprecated.without_effect()];
        let inert: Vec<_> = inert.into_iter().flatten().collect();
        if !inert.is_empty() {
            self.warnings.push(format!("these flags have no effect here: {}", inert.join(", ")));
        }
        for (old, new) in [&self.cli.deprecated, &self.env.deprecated]
            .map(flags::DeprecatedFlags::replaced)
            .concat()
        {
            self.warnings.push(format!("{old} is deprecated: use {new}"));
        }
        self.warn_of_windows();
        let manifests = self.beside().manifests.is_some();
        let api = &self.cli.kubernetes;
        if manifests && (api.kubeconfig.is_some() || api.master.is_some()) {
            let text = "--manifests is given, so --kubeconfig and --master have no effect";
            self.warnings.push(text.to_owned());
        }
    }

    fn warn_of_windows(&mut self) {
        let Some(file) = &self.file else { return };
        let fields = file.root.known_fields();
        let is_set = |field: &str| match fields.get(field) {
            Some(Value::Bool(_, set)) => *set,
            Some(Value::Dict(_, section)) => section.values().any(|value| match value {
                Value::Bool(_, set) => *set,
                Value::String(_, text) => !text.is_empty(),
                _ => false,
            }),
            _ => false,
        };
        let set: Vec<_> =
            ["winkernel", "windowsRunAsService"].into_iter().filter(|f| is_set(f)).collect();
        if !set.is_empty() {
            let set = set.join(", ");
            self.warnings
                .push(format!("these fields are for Windows and have no effect here: {set}"));
        }
    }

    fn warn_of_overruled_flags(&mut self) {
        let settings = layers::settings(&self.cli, "");
        let overruled = settings.iter().filter(|setting| !setting.beside_file);
        let mut names: Vec<_> = overruled.map(|setting| format!("--{}", setting.flag)).collect();
        let old = &self.cli.deprecated;
        names.extend(old.healthz_port.map(|_| "--healthz-port".to_owned()));
        names.extend(old.metrics_port.map(|_| "--metrics-port".to_owned()));
        if !names.is_empty() {
            let names = names.join(", ");
            self.warnings
                .push(format!("--config is given, so these flags have no effect: {names}"));
        }
    }

    /// The flags of the command line that count.
    fn counting(&self, mode: &str) -> Vec<Setting> {
        let mut settings = layers::settings(&self.cli, mode);
        settings.retain(|setting| setting.beside_file || self.file.is_none());
        settings
    }

    fn layered(&self, defaults: &KubeProxyConfiguration, mode: &str) -> Figment {
        let file = self.file.as_ref().map(|file| {
            let mut fields = file.root.known_fields();
            layers::drop_unset(&mut fields);
            fields
        });
        let base = layers::base(defaults, file);
        let env = layers::settings(&self.env, mode);
        let figment = layers::overlay(base, &env, Origin::Environment);
        layers::overlay(figment, &self.counting(mode), Origin::CommandLine)
    }

    /// The configuration with all defaults, and the layers it was made of.
    fn configuration(&self) -> Result<(KubeProxyConfiguration, Figment), ConfigError> {
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
        let figment = self.layered(&defaults, &text("mode"));
        let mut config: KubeProxyConfiguration =
            figment.extract().map_err(|error| self.extraction_error(&error))?;
        self.complete(&mut config, &figment);
        Ok((config, figment))
    }

    fn extraction_error(&self, error: &figment::Error) -> ConfigError {
        let node = self.file.as_ref().and_then(|file| file.root.find(&error.path));
        let at = node.map(|node| (node.line, node.column));
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

    fn validate(&self, config: &KubeProxyConfiguration, figment: &Figment) -> Vec<FieldError> {
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

    fn beside(&self) -> Beside {
        let (cli, env) = (&self.cli, &self.env);
        let manifests = cli.general.manifests.clone().or_else(|| env.general.manifests.clone());
        Beside {
            manifests: manifests.filter(|path| !path.as_os_str().is_empty()),
            master: cli.kubernetes.master.clone().or_else(|| env.kubernetes.master.clone()),
            iptables_variant: cli
                .iptables
                .iptables_variant
                .or(env.iptables.iptables_variant)
                .unwrap_or_default(),
            offload_after: cli
                .nftables
                .nftables_flowtable_threshold
                .or(env.nftables.nftables_flowtable_threshold)
                .and_then(std::num::NonZeroU32::new),
            ipvs_local_fallback: cli
                .ipvs
                .ipvs_local_fallback
                .or(env.ipvs.ipvs_local_fallback)
                .unwrap_or(false),
            service_metrics_limit: cli
                .health
                .service_metrics_limit
                .or(env.health.service_metrics_limit)
                .unwrap_or(SERVICE_METRICS_LIMIT),
            trust: cli.safety.over(&env.safety),
            ipvs_drain_timeout: cli
                .ipvs
                .ipvs_graceful_termination_timeout
                .or(env.ipvs.ipvs_graceful_termination_timeout)
                .map(GoDuration::to_std),
            healthz_stale_after: cli
                .health
                .healthz_stale_after
                .or(env.health.healthz_stale_after)
                .unwrap_or(GoDuration::ZERO)
                .to_std(),
            nftables_localhost_node_ports: cli
                .nftables
                .nftables_localhost_nodeports
                .or(env.nftables.nftables_localhost_nodeports)
                .unwrap_or(false),
            userspace_rest: cli
                .userspace
                .userspace_endpoint_rest
                .or(env.userspace.userspace_endpoint_rest)
                .map(GoDuration::to_std)
                .unwrap_or_default(),
        }
    }

    fn task(&self) -> Task {
        let (cli, env) = (&self.cli.general, &self.env.general);
        let write = cli.write_config_to.clone().or_else(|| env.write_config_to.clone());
        if let Some(path) = write.filter(|path| !path.as_os_str().is_empty()) {
            Task::WriteConfig(path)
        } else if cli.cleanup.or(env.cleanup) == Some(true) {
            Task::Cleanup
        } else if cli.init_only.or(env.init_only) == Some(true) {
            Task::InitOnly
        } else {
            Task::Run
        }
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

#[cfg(test)]
mod tests;
