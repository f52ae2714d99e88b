//! Errors of libraries in the words of an operator.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Why a request got no answer, in such words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::kubernetes) struct Said(pub(super) String);

impl Said {
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        Self(describe(error))
    }
}

/// What went wrong, by the innermost cause that is known; else the messages of an error and its sources, each once.
pub(in crate::kubernetes) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut known = None;
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        known = of_one(error).or(known);
        let message = error.to_string();
        // Many errors repeat their source in their own text.
        messages.retain(|outer| !outer.contains(&message));
        messages.push(message);
        next = error.source();
    }
    known.unwrap_or_else(|| messages.join(": "))
}

fn of_one(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(Said(text)) = error.downcast_ref() {
        return Some(text.clone());
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // An error of TLS travels inside one of I/O, whose source is that of the inner one.
        if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return Some(of_tls(inner));
        }
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Some("the connection was closed in the middle".to_owned())
            }
            _ => None,
        };
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_incomplete_message() {
        Some("the connection was closed before the answer".to_owned())
    } else if error.is_parse_too_large() {
        Some("the head of the answer is too large".to_owned())
    } else if error.is_parse() {
        Some("the answer is not HTTP".to_owned())
    } else {
        None
    }
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => of_certificate(reason),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server asks for a client certificate".to_owned()
            }
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA => {
                format!("the server refuses the client certificate ({alert:?})")
            }
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
                format!(
                    "the server and this client have no TLS version or cipher in common ({alert:?})"
                )
            }
            _ => format!("the server ended the TLS handshake ({alert:?})"),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS: does its URL begin with http://?".to_owned()
        }
        rustls::Error::PeerIncompatible(reason) => {
            format!(
                "the server and this client have no TLS version or cipher in common ({reason:?})"
            )
        }
        other => format!("TLS: {other}"),
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    let what = match reason {
        CertificateError::UnknownIssuer => "is not signed by a trusted certificate authority",
        CertificateError::BadSignature => "is not signed by the certificate authority it names",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: are the clocks right?"
        }
        CertificateError::NotValidForName => "is for another name",
        CertificateError::NotValidForNameContext { expected, presented } => {
            let (expected, names) = (expected.to_str(), presented.join(", "));
            return format!("the server's certificate is not for {expected}, but for: {names}");
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers"
        }
        other => return format!("the server's certificate is refused: {other}"),
    };
    format!("the server's certificate {what}")
}

#[cfg(test)]
mod tests;
