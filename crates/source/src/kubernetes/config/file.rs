//! The kubeconfig: which of its contents count, and what is cleaned up before they do.
//!
//! The types and the YAML are those of `kube`. It reads files too, but joins paths before blanks are cut, shows the lines around a fault,
//! which may be secrets, and panics on UTF-16 of an odd length.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kube::config::{
    AuthInfo, Cluster, Context, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster,
    NamedContext,
};

/// Reads a file. Relative paths in it begin at its folder.
pub(super) fn read(path: &Path) -> Result<Kubeconfig, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut config = from_bytes(bytes)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        resolve(folder, &mut cluster.certificate_authority);
    }
    for user in config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        resolve(folder, &mut user.client_certificate);
        resolve(folder, &mut user.client_key);
        resolve(folder, &mut user.token_file);
        if let Some(exec) = &mut user.exec
            && exec.command.as_deref().is_some_and(|command| command.contains('/'))
        {
            resolve(folder, &mut exec.command);
        }
    }
    Ok(config)
}

/// Reads the content of a file, and leaves paths as they are.
pub(super) fn from_bytes(bytes: Vec<u8>) -> Result<Kubeconfig, String> {
    parse(&text_of(bytes)?)
}

/// Reads YAML or JSON, and cuts blanks around what is passed on as it stands.
fn parse(text: &str) -> Result<Kubeconfig, String> {
    let parsed = Kubeconfig::from_yaml(text).map_err(|error| match error {
        KubeconfigError::Parse(error) => error.without_snippet().to_string(),
        error => error.to_string(),
    });
    let mut config = parsed.map_err(|reason| format!("not a kubeconfig: {reason}"))?;
    check_names("clusters", &config.clusters)?;
    check_names("users", &config.auth_infos)?;
    check_names("contexts", &config.contexts)?;
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        for field in [&mut cluster.server, &mut cluster.proxy_url, &mut cluster.tls_server_name] {
            *field = text_in(field.as_ref());
        }
        let data = cluster.certificate_authority_data.as_deref().map(without_blanks);
        cluster.certificate_authority_data = data.filter(|data| !data.is_empty());
        cluster.certificate_authority = text_in(cluster.certificate_authority.as_ref());
    }
    Ok(config)
}

/// What the current context names. A server that is given otherwise needs no cluster, and then no context.
pub(super) fn select(
    config: &Kubeconfig,
    server_is_given: bool,
) -> Result<(Cluster, AuthInfo), String> {
    match current(config) {
        Ok((cluster, user)) => Ok((cluster.clone(), user.cloned().unwrap_or_default())),
        Err(reason) if server_is_given => {
            tracing::warn!("kubeconfig used for nothing but the server given otherwise: {reason}");
            Ok((Cluster::default(), AuthInfo::default()))
        }
        Err(reason) => Err(reason),
    }
}

fn current(config: &Kubeconfig) -> Result<(&Cluster, Option<&AuthInfo>), String> {
    let name = text(config.current_context.as_ref()).ok_or("current-context is not set")?;
    let context = find(&config.contexts, name).ok_or_else(|| {
        format!("current-context {name:?} is not among contexts{}", names(&config.contexts))
    })?;
    let cluster_name = text(Some(&context.cluster))
        .ok_or_else(|| format!("the context {name:?} names no cluster"))?;
    let cluster = find(&config.clusters, cluster_name).ok_or_else(|| {
        format!(
            "the cluster {cluster_name:?} of the context {name:?} is not among clusters{}",
            names(&config.clusters)
        )
    })?;
    let user = text(context.user.as_ref()).and_then(|user| {
        let found = find(&config.auth_infos, user);
        if found.is_none() {
            tracing::warn!(user, "kubeconfig has no such user; requests carry no credentials");
        }
        found
    });
    Ok((cluster, user))
}

/// A value that is set, without blanks around it.
pub(super) fn text<T: AsRef<str> + ?Sized>(value: Option<&T>) -> Option<&str> {
    value.map(|value| value.as_ref().trim()).filter(|value| !value.is_empty())
}

/// A path that is set.
pub(super) fn path(value: Option<&String>) -> Option<PathBuf> {
    text(value).map(PathBuf::from)
}

/// Base64 in one piece: templates break lines, and leave blanks.
pub(super) fn without_blanks(data: &str) -> String {
    data.chars().filter(|c| !c.is_whitespace()).collect()
}

fn text_in(value: Option<&String>) -> Option<String> {
    text(value).map(str::to_owned)
}

/// An entry of one of the lists.
trait Named {
    type Value;
    fn name(&self) -> &str;
    fn value(&self) -> Option<&Self::Value>;
}

impl Named for NamedCluster {
    type Value = Cluster;
    fn name(&self) -> &str {
        &self.name
    }
    fn value(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }
}

impl Named for NamedAuthInfo {
    type Value = AuthInfo;
    fn name(&self) -> &str {
        &self.name
    }
    fn value(&self) -> Option<&AuthInfo> {
        self.auth_info.as_ref()
    }
}

impl Named for NamedContext {
    type Value = Context;
    fn name(&self) -> &str {
        &self.name
    }
    fn value(&self) -> Option<&Context> {
        self.context.as_ref()
    }
}

fn find<'l, T: Named>(list: &'l [T], name: &str) -> Option<&'l T::Value> {
    list.iter().find(|named| named.name().trim() == name)?.value()
}

/// The names in a list, to help with a name that is not there.
fn names<T: Named>(list: &[T]) -> String {
    let names: Vec<_> = list.iter().filter_map(|named| text(Some(named.name()))).collect();
    if names.is_empty() {
        " (there are none)".to_owned()
    } else {
        format!(": {}", names.join(", "))
    }
}

fn check_names<T: Named>(field: &str, list: &[T]) -> Result<(), String> {
    let mut seen = HashSet::new();
    let mut all = list.iter().filter_map(|named| text(Some(named.name())));
    match all.find(|name| !seen.insert(*name)) {
        Some(name) => Err(format!("{field} has two entries with the name {name:?}")),
        None => Ok(()),
    }
}

fn resolve(folder: &Path, path: &mut Option<String>) {
    if let Some(given) = text(path.as_ref()) {
        // A path that is absolute replaces the folder.
        *path = Some(folder.join(given).to_string_lossy().into_owned());
    }
}

/// Editors also write UTF-16, and mark UTF-8.
fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    let utf16 = |decode: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks(2).map(|pair| decode([pair[0], *pair.get(1).unwrap_or(&0)]));
        String::from_utf16(&units.collect::<Vec<_>>()).map_err(|_| "not valid UTF-16".to_owned())
    };
    match bytes.as_slice() {
        [0xFF, 0xFE, ..] => utf16(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => utf16(u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest.to_vec()),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| format!("not valid UTF-8: {error}"))
}

#[cfg(test)]
mod tests;
