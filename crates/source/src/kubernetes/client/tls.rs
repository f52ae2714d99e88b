//! From certificates and keys to the settings of TLS.

use std::fmt;
use std::path::PathBuf;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::verify::{self, provider};

/// Where the certificates and keys are.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) roots: Roots,
    /// Certificate and key that prove who we are.
    pub(crate) identity: Option<(Pem, Pem)>,
    /// The name that the certificate of the server has to be for, instead of the host in the URL.
    pub(crate) server_name: Option<String>,
}

/// Which certificates of a server are accepted.
#[derive(Clone, Debug, Default)]
pub(crate) enum Roots {
    /// Those of the system's authorities.
    #[default]
    System,
    /// Those of these authorities.
    Pem(Pem),
    /// All.
    Unchecked,
}

/// PEM, in a file or in the kubeconfig.
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    Data { field: String, pem: Vec<u8> },
}

/// Certificate chain and key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// Where they come from, for messages.
    pub(crate) origin: String,
}

/// What the files contain at present.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    roots: Option<Vec<u8>>,
    identity: Option<Identity>,
}

impl TlsSettings {
    /// Whether anything is set, which makes `https` the scheme of a server that names none.
    pub(crate) fn is_set(&self) -> bool {
        !matches!(self.roots, Roots::System) || self.identity.is_some()
    }

    /// Reads the files. An identity that a plugin provides takes the place of the configured one.
    pub(super) fn read(&self, provided: Option<&Identity>) -> Result<Material, String> {
        let roots = match &self.roots {
            Roots::Pem(pem) => Some(pem.read()?),
            Roots::System | Roots::Unchecked => None,
        };
        let configured = self.identity.as_ref().map(|(certificate, key)| {
            Ok::<_, String>(Identity {
                certificate: certificate.read()?,
                key: key.read()?,
                origin: format!("{certificate:?} and {key:?}"),
            })
        });
        let identity = match provided {
            Some(identity) => Some(identity.clone()),
            None => configured.transpose()?,
        };
        Ok(Material { roots, identity })
    }

    /// The settings of TLS with this material.
    pub(super) fn build(&self, material: &Material) -> Result<ClientConfig, String> {
        let verifier = match (&self.roots, &material.roots) {
            (Roots::Unchecked, _) => verify::unchecked(),
            (Roots::Pem(origin), Some(pem)) => {
                let roots: Vec<_> =
                    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
                verify::by(roots).map_err(|reason| format!("{origin:?}: {reason}"))?
            }
            _ => verify::by_system()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some(identity) = &material.identity else { return Ok(builder.with_no_client_auth()) };
        let failed = |reason: String| format!("{}: {reason}", identity.origin);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&identity.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| failed(format!("the certificate is not valid PEM: {error}")))?;
        if chain.is_empty() {
            return Err(failed("there is no certificate in PEM".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&identity.key)
            .map_err(|_| failed("there is no private key in PEM without a password".to_owned()))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| failed(format!("certificate and key cannot be used: {error}")))
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => {
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
            }
            Self::Data { pem, .. } => Ok(pem.clone()),
        }
    }
}

/// Where it is, not what it contains.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Data { field, .. } => f.write_str(field),
        }
    }
}

/// Where it comes from, not what it contains.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}
