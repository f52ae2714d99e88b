use std::fs;

use super::*;
use crate::kubernetes::client::tls::Roots;

fn account() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "t\n").unwrap();
    fs::write(folder.path().join("ca.crt"), "").unwrap();
    folder
}

fn load_with(host: &str, port: &str, account: &Path) -> Result<Settings, String> {
    let variable = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
        _ => None,
    };
    load(variable, account, &Timing::default())
}

#[test]
fn environment_and_files_make_a_configuration() {
    let account = account();
    let settings = load_with("10.96.0.1", "443", account.path()).unwrap();
    assert_eq!(settings.server.to_string(), "https://10.96.0.1");
    assert!(matches!(settings.tls.roots, Roots::Pem(_)));
    assert!(matches!(settings.credentials, Credentials::TokenFile(_)));
    for host in ["fd00::1", "[fd00::1]"] {
        let settings = load_with(host, "6443", account.path()).unwrap();
        assert_eq!(settings.server.to_string(), "https://[fd00::1]:6443");
    }
}

#[test]
fn what_is_missing_is_named() {
    let account = account();
    let error = |host: &str, port: &str| load_with(host, port, account.path()).unwrap_err();
    assert!(error("", "443").contains("KUBERNETES_SERVICE_HOST is not set"));
    assert!(error("a", " ").contains("KUBERNETES_SERVICE_PORT is not set"));
    assert!(error("a", "x").contains("no port"));
    fs::remove_file(account.path().join("ca.crt")).unwrap();
    let settings = load_with("10.96.0.1", "443", account.path()).unwrap();
    assert!(matches!(settings.tls.roots, Roots::System));
    fs::remove_file(account.path().join("token")).unwrap();
    assert!(error("10.96.0.1", "443").contains("token: No such file"));
}
