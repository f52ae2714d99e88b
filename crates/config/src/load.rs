//! From command line, environment and file to the configuration that counts.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::effective::Effective;
use super::error::ConfigError;
use super::flags::{self, GeneralFlags, VersionFormat};
use super::gates;
use super::mode::{ModeChoice, ModeOrigin};
use super::types::KubeProxyConfiguration;

mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod layered;
mod page;
mod warnings;

use file::File;
use layered::Layers;

/// What the process was started with. A struct so that tests can say it.
pub struct Start<'a> {
    /// The command line, with the program's name first.
    pub args: Vec<OsString>,
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The host name of the machine.
    pub host_name: &'a dyn Fn() -> io::Result<String>,
    /// The mode for this node, where none is named (`auto`). Has to say the same each time.
    pub choose_mode: &'a dyn Fn() -> ModeChoice,
}

impl Start<'static> {
    /// This process, and how a mode is chosen for its node.
    pub fn of_process(choose_mode: &'static dyn Fn() -> ModeChoice) -> Self {
        Self {
            args: std::env::args_os().collect(),
            // What is not UTF-8 is no value of any flag; it is refused rather than overlooked.
            variable: &|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()),
            host_name: &host_name,
            choose_mode,
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

impl Task {
    /// What the flags ask for.
    fn of(flags: &GeneralFlags) -> Self {
        let write = flags.write_config_to.clone();
        if let Some(path) = write.filter(|path| !path.as_os_str().is_empty()) {
            Self::WriteConfig(path)
        } else if flags.cleanup == Some(true) {
            Self::Cleanup
        } else if flags.init_only == Some(true) {
            Self::InitOnly
        } else {
            Self::Run
        }
    }
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
    /// Where the mode comes from.
    pub mode_origin: ModeOrigin,
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
    let flags = cli.over(&env);
    let file = match flags.general.config.as_ref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => Some(File::read(path.clone())?),
        None => None,
    };
    let layers = Layers { cli, env, file };
    let mut warnings = layers.warnings();
    let (configuration, figment, mode_origin) = layers.configuration(start.choose_mode)?;
    let errors = layers.errors(&configuration, &figment);
    if !errors.is_empty() {
        return Err(ConfigError::Invalid(errors));
    }
    warnings.extend(gates::remark(&configuration.feature_gates, &configuration.mode));
    let node_name = node_name(&configuration.hostname_override, start.host_name)?;
    let effective = Effective::new(&configuration, &flags, node_name);
    Ok(Command::Configured(Box::new(Loaded {
        task: Task::of(&flags.general),
        // Validation covers everything the conversion can fail on; should the two ever disagree, this says so.
        effective: effective.ok_or_else(|| ConfigError::Invalid(Vec::new()))?,
        flags: page::flags(start, &configuration),
        mode_origin,
        configuration,
        config_file: layers.file.map(|file| file.path),
        warnings,
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

#[cfg(test)]
mod tests;
