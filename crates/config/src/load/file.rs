//! The file of `--config`.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kube_proxy_yaml::Node;

use crate::document::{self, Problem};
use crate::error::ConfigError;

/// Most bytes of a configuration file; a ConfigMap holds a quarter of that.
const LARGEST_FILE: u64 = 4 << 20;

/// A configuration file that was read.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) root: Node,
}

impl File {
    pub(super) fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let text = match read(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        match document::parse(&text) {
            Ok(root) => Ok(Self { path, root }),
            Err(problem) => Err(decode_error(&path, "", problem)),
        }
    }
}

/// Reads a text file, but no more than any configuration is long.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        let reason = format!("it has more than {LARGEST_FILE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

/// An error at a place of the file.
pub(super) fn decode_error(path: &Path, field: &str, problem: Problem) -> ConfigError {
    ConfigError::Decode {
        path: path.to_owned(),
        at: problem.at,
        field: field.to_owned(),
        reason: problem.reason,
    }
}
