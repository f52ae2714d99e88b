//! How the values of flags are read.

use std::ffi::{OsStr, OsString};

use clap::ValueEnum;
use clap::builder::TypedValueParser;
use ipnet::IpNet;
use kube_proxy_core::{Algorithm, NoLocalEndpoints, ZoneSpill};

use crate::duration::GoDuration;
use crate::types::VModule;
use crate::whole;

/// Which iptables programs to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IptablesVariant {
    /// Those the node's kubelet uses.
    #[default]
    Auto,
    /// `iptables-legacy` and its kin.
    Legacy,
    /// `iptables-nft` and its kin.
    Nft,
}

/// Bits of a packet mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkMask(pub u32);

/// A shell that completes command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

/// What `--version` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionFormat {
    /// One line for people (`--version`).
    Short,
    /// Everything that is known about the build (`--version=raw`).
    Raw,
    /// Nothing (`--version=false`).
    None,
}

/// Reads a whole number, also one that a template has written as `1.048576e+06` or `-998.0`.
#[derive(Clone)]
pub(super) struct Whole<P>(pub(super) P);

impl<P: TypedValueParser> TypedValueParser for Whole<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        let float = value.to_str().filter(|text| text.contains(['.', 'e', 'E']));
        let number = float.and_then(|text| text.parse().ok()).and_then(whole::from_float);
        let plain = number.map_or_else(|| value.to_owned(), |n| OsString::from(n.to_string()));
        self.0.parse_ref(command, arg, &plain)
    }
}

/// Reads a boolean as Go does.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

/// Bits of a packet mark: none, or at least two, as one of them says that the others count.
pub(super) fn mark_mask(text: &str) -> Result<MarkMask, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16),
        _ => text.parse(),
    };
    match number {
        Ok(mask) if mask.count_ones() != 1 => Ok(MarkMask(mask)),
        _ => Err(
            "0, or a number of 32 bits with at least two of them set, such as 0x107f, is expected"
                .to_owned(),
        ),
    }
}

/// What happens without local endpoints.
pub(super) fn no_local_endpoints(text: &str) -> Result<NoLocalEndpoints, String> {
    text.parse().map_err(str::to_owned)
}

/// When endpoints of other zones join those of the node's.
pub(super) fn zone_spill(text: &str) -> Result<ZoneSpill, String> {
    text.parse().map_err(str::to_owned)
}

/// How an endpoint is chosen.
pub(super) fn lb_algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse().map_err(str::to_owned)
}

pub(super) fn version(text: &str) -> Result<VersionFormat, String> {
    match text {
        "raw" => Ok(VersionFormat::Raw),
        other => match boolean(other) {
            Ok(true) => Ok(VersionFormat::Short),
            Ok(false) => Ok(VersionFormat::None),
            Err(_) => Err("true, false or raw is expected".to_owned()),
        },
    }
}

pub(super) fn duration(text: &str) -> Result<GoDuration, String> {
    text.parse().map_err(|error: crate::duration::InvalidDuration| error.to_string())
}

pub(super) fn not_negative(text: &str) -> Result<GoDuration, String> {
    match duration(text)? {
        negative if negative < GoDuration::ZERO => Err("must not be negative".to_owned()),
        duration => Ok(duration),
    }
}

/// One comma-separated `Name=true` of `--feature-gates`.
pub(super) fn feature_gate(text: &str) -> Result<Option<(String, bool)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (name, state) = text.split_once('=').ok_or("Name=true or Name=false is expected")?;
    let state = boolean(state.trim()).map_err(|reason| format!("{name}: {reason}"))?;
    Ok(Some((name.trim().to_owned(), state)))
}

/// One comma-separated network.
pub(super) fn network(text: &str) -> Result<Option<IpNet>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let network = text.parse().map_err(|_| "a network like 192.0.2.0/24 is expected".to_owned());
    network.map(Some)
}

/// One comma-separated `pattern=N` of `--vmodule`.
pub(super) fn vmodule(text: &str) -> Result<Option<VModule>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "pattern=N is expected, N a verbosity from 0 to 2147483647";
    let (pattern, level) = text.split_once('=').ok_or(expected)?;
    let verbosity = level.parse::<i32>().ok().and_then(|level| u32::try_from(level).ok());
    match verbosity {
        Some(verbosity) if !pattern.is_empty() => {
            Ok(Some(VModule { file_pattern: pattern.to_owned(), verbosity }))
        }
        _ => Err(expected.to_owned()),
    }
}
