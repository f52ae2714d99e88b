//! What a kubeconfig says about certificates and credentials.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use data_encoding::BASE64;
use http::header::{HeaderName, HeaderValue};
use kube::config::{AuthInfo, Cluster};
use secrecy::{ExposeSecret, SecretString};

use super::Timing;
use super::file::{path, text, without_blanks};
use crate::kubernetes::client::Credentials;
use crate::kubernetes::client::exec::Plugin;
use crate::kubernetes::client::tls::{Pem, Roots, TlsSettings};

/// How the server proves who it is, and we with a certificate.
pub(super) fn tls(cluster: &Cluster, user: &AuthInfo) -> Result<TlsSettings, String> {
    let ca = pem(
        "certificate-authority",
        cluster.certificate_authority.as_ref(),
        cluster.certificate_authority_data.as_deref(),
    )?;
    let roots = match (ca, cluster.insecure_skip_tls_verify.unwrap_or(false)) {
        (Some(_), true) => {
            let both = "insecure-skip-tls-verify and a certificate authority exclude each other";
            return Err(both.to_owned());
        }
        (Some(ca), false) => Roots::Pem(ca),
        (None, true) => Roots::Unchecked,
        (None, false) => Roots::System,
    };
    let certificate = pem(
        "client-certificate",
        user.client_certificate.as_ref(),
        user.client_certificate_data.as_deref(),
    )?;
    let key = pem("client-key", user.client_key.as_ref(), secret(user.client_key_data.as_ref()))?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err("client-certificate is set without client-key".to_owned()),
        (None, Some(_)) => return Err("client-key is set without client-certificate".to_owned()),
    };
    let server_name = text(cluster.tls_server_name.as_ref()).map(str::to_owned);
    Ok(TlsSettings { roots, identity, server_name })
}

/// The file, or the data that stands in its place.
fn pem(field: &str, file: Option<&String>, data: Option<&str>) -> Result<Option<Pem>, String> {
    match (path(file), text(data)) {
        (_, Some(data)) => {
            let decoded = BASE64.decode(without_blanks(data).as_bytes());
            let decoded = decoded.map_err(|error| format!("{field}-data: not base64: {error}"))?;
            Ok(Some(Pem::Data { field: format!("{field}-data"), pem: decoded }))
        }
        (Some(file), None) => Ok(Some(Pem::File(file))),
        (None, None) => Ok(None),
    }
}

/// What stands in the `Authorization` header.
pub(super) fn credentials(
    cluster: &Cluster,
    user: &AuthInfo,
    timing: &Timing,
) -> Result<Option<Credentials>, String> {
    if let Some(provider) = &user.auth_provider {
        let name = text(Some(&provider.name)).unwrap_or_default();
        return Err(format!("auth-provider {name:?} is not supported; exec plugins are"));
    }
    let token = text(secret(user.token.as_ref()));
    if token.is_some() && text(user.username.as_ref()).is_some() {
        return Err("token and username exclude each other".to_owned());
    }
    if let Some(file) = path(user.token_file.as_ref()) {
        return Credentials::token_file(file, token, timing.credentials).map(Some);
    }
    if let Some(token) = token {
        return Credentials::token(token).map(Some).map_err(|reason| format!("token: {reason}"));
    }
    if let Some(exec) = &user.exec {
        return Plugin::new(exec, cluster, timing.connect)
            .map(|plugin| Some(Credentials::Exec(plugin)))
            .map_err(|reason| format!("exec: {reason}"));
    }
    let password = secret(user.password.as_ref()).unwrap_or_default();
    Ok(text(user.username.as_ref()).map(|name| Credentials::basic(name, password.trim())))
}

fn secret(value: Option<&SecretString>) -> Option<&str> {
    value.map(SecretString::expose_secret)
}

/// The headers that ask the server to act for another user.
pub(super) fn impersonation(user: &AuthInfo) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &str| {
        let header = HeaderName::try_from(name);
        let header = header.map_err(|_| format!("{name:?} cannot be a header"))?;
        let value = HeaderValue::try_from(value.trim());
        headers.push((header, value.map_err(|_| format!("{name}: no value of a header"))?));
        Ok::<_, String>(())
    };
    if let Some(name) = text(user.impersonate.as_ref()) {
        add("impersonate-user", name)?;
    }
    if let Some(uid) = text(user.impersonate_uid.as_ref()) {
        add("impersonate-uid", uid)?;
    }
    for group in user.impersonate_groups.iter().flatten() {
        add("impersonate-group", group)?;
    }
    // In the order of their names, so that all requests are alike.
    let extra: BTreeMap<_, _> = user.impersonate_user_extra.iter().flatten().collect();
    for (key, values) in extra {
        for value in values {
            add(&format!("impersonate-extra-{}", escape(key)), value)?;
        }
    }
    if !headers.is_empty() && text(user.impersonate.as_ref()).is_none() {
        return Err("as-uid, as-groups and as-user-extra need \"as\"".to_owned());
    }
    Ok(headers)
}

/// A key as part of the name of a header: what cannot stand there is written as `%xx`.
fn escape(key: &str) -> String {
    let mut escaped = String::new();
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            escaped.push(char::from(byte.to_ascii_lowercase()));
        } else {
            let _ = write!(escaped, "%{byte:02x}");
        }
    }
    escaped
}
