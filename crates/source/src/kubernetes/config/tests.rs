use std::fs;

use super::*;
use crate::kubernetes::client::Credentials;
use crate::kubernetes::client::Transport;
use crate::kubernetes::client::tls::Roots;

fn options(kubeconfig: Option<&Path>, master: Option<&str>) -> KubernetesOptions {
    KubernetesOptions {
        kubeconfig: kubeconfig.map(Path::to_owned),
        master: master.map(str::to_owned),
        ..KubernetesOptions::default()
    }
}

/// A kubeconfig with fields of its cluster and of its user.
fn kubeconfig(cluster: &str, user: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
    );
    fs::write(file.path(), text).unwrap();
    file
}

fn loaded(cluster: &str, user: &str) -> Result<Settings, String> {
    let file = kubeconfig(cluster, user);
    load(&options(Some(file.path()), None)).map_err(|error| error.to_string())
}

fn client(settings: Settings) -> Result<Transport, String> {
    Transport::new(settings, Duration::from_secs(1))
}

#[test]
fn the_server_comes_from_the_file_unless_a_master_is_given() {
    let file = kubeconfig("server: 'https://192.0.2.1:6443'", "token: t");
    let config = load(&options(Some(file.path()), None)).unwrap();
    assert_eq!(config.server.to_string(), "https://192.0.2.1:6443");
    let config = load(&options(Some(file.path()), Some("http://192.0.2.9:80"))).unwrap();
    assert_eq!(config.server.to_string(), "http://192.0.2.9");
    assert!(matches!(config.credentials, Credentials::Header(_)), "it still says who we are");
}

#[test]
fn a_file_without_server_or_context_does_when_a_master_is_given() {
    let file = kubeconfig("", "token: t");
    let config = load(&options(Some(file.path()), Some("192.0.2.9:8080"))).unwrap();
    assert_eq!(config.server.to_string(), "http://192.0.2.9:8080");
    assert!(load(&options(Some(file.path()), None)).is_err());
    fs::write(file.path(), "").unwrap();
    let config = load(&options(Some(file.path()), Some("192.0.2.9:8080"))).unwrap();
    assert_eq!(config.server.to_string(), "http://192.0.2.9:8080");
    assert!(load(&options(Some(file.path()), None)).is_err());
}

#[test]
fn a_master_alone_is_enough() {
    let config = load(&options(None, Some(" https://[2001:db8::1]:6443\n"))).unwrap();
    assert_eq!(config.server.host, "2001:db8::1");
    assert!(client(config).is_ok());
}

#[test]
fn a_server_without_scheme_gets_https_where_there_are_tls_settings() {
    let scheme = |cluster: &str, user: &str| loaded(cluster, user).unwrap().server.https;
    assert!(!scheme("server: '10.0.0.1:6443'", "token: t"));
    assert!(!scheme("server: '10.0.0.1:443'", ""));
    let ca = format!("certificate-authority-data: {CA}");
    assert!(scheme(&format!("server: '10.0.0.1:6443', {ca}"), ""));
    assert!(scheme("server: 10.0.0.1, insecure-skip-tls-verify: true", ""));
    assert!(scheme("server: ' 10.0.0.1:80 '", "client-certificate: c, client-key: k"));
    let file = kubeconfig(&ca, "");
    let settings = load(&options(Some(file.path()), Some("10.0.0.1:6443"))).unwrap();
    assert!(settings.server.https, "--master follows the same rule");
}

#[test]
fn what_is_wrong_is_said() {
    for bad in ["ftp://192.0.2.1", "http://", "::", "http://a b", "a/b", "http://a:0", "a:70000"] {
        let error = load(&options(None, Some(bad))).unwrap_err().to_string();
        assert!(error.contains("master URL") && error.contains(bad), "{error}");
    }
    let missing = Path::new("/nonexistent/kubeconfig");
    let error = load(&options(Some(missing), None)).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/kubeconfig"), "{error}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let server = "server: 'https://192.0.2.1'";
    let ca = format!("certificate-authority-data: {CA}");
    for (cluster, user, part) in [
        (format!("{server}, {ca}, insecure-skip-tls-verify: true"), "", "exclude each other"),
        (server.to_owned(), "token: t, username: u", "exclude each other"),
        (server.to_owned(), "client-certificate: /c", "without client-key"),
        (server.to_owned(), "client-key: /c", "without client-certificate"),
        (server.to_owned(), "auth-provider: {name: gcp}", "\"gcp\" is not supported"),
        (server.to_owned(), "as-groups: [a]", "need \"as\""),
        (server.to_owned(), "exec: {apiVersion: v1, command: x}", "apiVersion"),
        (server.to_owned(), "tokenFile: /nonexistent", "/nonexistent"),
        (server.to_owned(), "token: \"a\\u0007b\"", "no token can have, at byte 2"),
        (format!("{server}, proxy-url: 'ftp://a'"), "", "proxy-url"),
        (format!("{server}, certificate-authority-data: '*'"), "", "not base64"),
        ("server: 'https://[::1'".to_owned(), "", "bracket"),
        (String::new(), "", "no server"),
    ] {
        let error = loaded(&cluster, user).unwrap_err();
        assert!(error.contains(part) && error.contains("kubeconfig /"), "{error}");
    }
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let server = "server: 'https://192.0.2.1'";
    for (cluster, user, part) in [
        (", certificate-authority: /nonexistent/ca", "", "/nonexistent/ca: No such file"),
        (
            ", certificate-authority-data: Zm9v",
            "",
            "certificate-authority-data: there is no usable",
        ),
        ("", "client-certificate: /nonexistent/c, client-key: /k", "/nonexistent/c: No such file"),
        ("", "client-certificate-data: Zm9v, client-key-data: Zm9v", "no certificate in PEM"),
    ] {
        let settings = loaded(&format!("{server}{cluster}"), user).unwrap();
        let error = client(settings).map(|_| ()).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn impersonation_is_sent_as_headers() {
    let user = "as: jane, as-uid: '7', as-groups: [a, b], as-user-extra: {A/b: [c]}";
    let settings = loaded("server: 'https://192.0.2.1'", user).unwrap();
    let text: Vec<_> =
        settings.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    let expected = [
        "impersonate-user: \"jane\"",
        "impersonate-uid: \"7\"",
        "impersonate-group: \"a\"",
        "impersonate-group: \"b\"",
        "impersonate-extra-a%2fb: \"c\"",
    ];
    assert_eq!(text, expected);
}

/// A self-signed certificate, only to be read.
const CA: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJjakNDQVJlZ0F3SUJBZ0lVSitaODUvd3VJcktvdlZ6NHVoTytSdnowc05nd0NnWUlLb1pJemowRUF3SXcKRFRFTE1Ba0dBMVVFQXd3Q1kyRXdJQmNOTWpZeE1USTJNREl4TmpNMFdoZ1BNakV5TmpFeE1ESXdNakUyTXpSYQpNQTB4Q3pBSkJnTlZCQU1NQW1OaE1Ga3dFd1lIS29aSXpqMENBUVlJS29aSXpqMERBUWNEUWdBRWFlN1ljcS82CmlaYXY5ZjZOc1ZXQzB3VkpyQmQrT0pYc2ZOVU9nZ2p1c28xclJHYlJwL3dqK2thcHNuTFN0cjN6RmV6VGIxWjUKODRMTXdTR0NYVHZBRTZOVE1GRXdIUVlEVlIwT0JCWUVGQjJQNGpzcDdBSjBFNnU3eFpFL0VGSWZ5WllsTUI4RwpBMVVkSXdRWU1CYUFGQjJQNGpzcDdBSjBFNnU3eFpFL0VGSWZ5WllsTUE4R0ExVWRFd0VCL3dRRk1BTUJBZjh3CkNnWUlLb1pJemowRUF3SURTUUF3UmdJaEFPREcvRlBmeDJwdlFMUFQzYnJqQU1WeEhIejM2bWh1MEhXcE5qK1gKZFhQeEFpRUEwMmpXcUp4N2htc2ZVMFY5QmpMZDFsajRrZzVsd2hJOVNWQmo0K1YwY2FZPQotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg==";

#[test]
fn certificates_of_the_system_are_used_only_where_no_others_do() {
    let roots = |cluster: &str| loaded(cluster, "").unwrap().tls.roots;
    let ca = format!("server: 'https://192.0.2.1:6443', certificate-authority-data: {CA}");
    assert!(matches!(roots("server: 'https://192.0.2.1:6443'"), Roots::System));
    assert!(matches!(roots(&ca), Roots::Pem(_)));
    assert!(client(loaded(&ca, "").unwrap()).is_ok());
    let unchecked = "server: 'https://192.0.2.1:6443', insecure-skip-tls-verify: true";
    assert!(matches!(roots(unchecked), Roots::Unchecked));
    assert!(client(loaded(unchecked, "").unwrap()).is_ok());
}

/// client-go says that data overrides the file, and refuses to continue. Here it overrides.
#[test]
fn data_stands_in_for_the_file_beside_it() {
    let cluster = format!(
        "server: 'https://192.0.2.1', certificate-authority: /nonexistent, \
         certificate-authority-data: {CA}"
    );
    let user = "client-certificate: /nonexistent, client-certificate-data: QQ==, \
                client-key: /nonexistent, client-key-data: Qg==";
    let settings = loaded(&cluster, user).unwrap();
    let Roots::Pem(roots) = &settings.tls.roots else { panic!("{:?}", settings.tls) };
    let (certificate, key) = settings.tls.identity.as_ref().unwrap();
    let shown = [roots, certificate, key].map(|pem| format!("{pem:?}"));
    let fields = ["certificate-authority-data", "client-certificate-data", "client-key-data"];
    for (shown, field) in shown.iter().zip(fields) {
        assert!(shown.contains(field) && !shown.contains("nonexistent"), "{shown}");
    }
}

#[test]
fn the_name_for_tls_is_kept_apart_from_the_server() {
    let settings = |field| loaded(&format!("server: 'https://192.0.2.1', {field}"), "").unwrap();
    let name = settings("tls-server-name: ' api.example.com '").tls.server_name;
    assert_eq!(name.as_deref(), Some("api.example.com"));
    assert_eq!(settings("tls-server-name: ' '").tls.server_name, None);
}

/// Of several credentials one counts: a token before a plugin, a plugin before a password.
#[test]
fn credentials_of_each_kind() {
    let server = "server: 'https://192.0.2.1'";
    let credentials = |user: &str| loaded(server, user).unwrap().credentials;
    assert!(matches!(credentials(""), Credentials::None));
    assert!(matches!(credentials("username: u, password: p"), Credentials::Header(_)));
    assert!(matches!(credentials("username: u"), Credentials::Header(_)));
    assert!(matches!(credentials("password: p"), Credentials::None), "of nobody");
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: x, \
                interactiveMode: Never}";
    assert!(matches!(credentials(exec), Credentials::Exec(_)));
    assert!(matches!(credentials(&format!("{exec}, username: u")), Credentials::Exec(_)));
    assert!(matches!(credentials(&format!("{exec}, token: t")), Credentials::Header(_)));
    // Its own fields are not looked at, and may be what they like.
    let provider = "auth-provider: {name: oidc, config: {idp-issuer-url: x}}";
    let error = loaded(server, provider).unwrap_err();
    assert!(
        error.ends_with("auth-provider \"oidc\" is not supported; exec plugins are"),
        "{error}"
    );
}

/// `KUBECONFIG` may be a list of files, `--kubeconfig` is one.
#[test]
fn the_path_is_no_list() {
    let (one, two) = (kubeconfig("server: a", ""), kubeconfig("server: b", ""));
    let list = format!("{}:{}", one.path().display(), two.path().display());
    let error = load(&options(Some(Path::new(&list)), None)).unwrap_err().to_string();
    assert!(error.contains(&list) && error.contains("No such file"), "{error}");
}

#[test]
fn data_may_be_broken_into_lines() {
    let (first, second) = CA.split_at(64);
    let cluster = format!(
        "server: 'https://192.0.2.1', certificate-authority-data: \"{first}\\r\\n {second}\\n\""
    );
    assert!(client(loaded(&cluster, "").unwrap()).is_ok());
}

#[test]
fn paths_begin_at_the_folder_of_the_kubeconfig() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pki")).unwrap();
    fs::write(folder.path().join("pki/token"), "t\r\n").unwrap();
    fs::write(
        folder.path().join("conf"),
        "{current-context: c, clusters: [{name: k, cluster: {server: 'https://192.0.2.1', \
         certificate-authority: pki/ca}}], users: [{name: u, user: {tokenFile: pki/token}}], \
         contexts: [{name: c, context: {cluster: k, user: u}}]}",
    )
    .unwrap();
    let settings = load(&options(Some(&folder.path().join("conf")), None)).unwrap();
    let Roots::Pem(pem) = &settings.tls.roots else { panic!("{:?}", settings.tls) };
    assert_eq!(format!("{pem:?}"), folder.path().join("pki/ca").display().to_string());
    assert!(matches!(settings.credentials, Credentials::TokenFile(_)));
}

/// The proxy of a kubeconfig, a master or a pod, in an environment.
fn proxied(kubeconfig: Option<&Path>, master: Option<&str>, no_proxy: &str) -> Option<String> {
    let variable = |name: &str| match name {
        "HTTPS_PROXY" => Some("http://secure:1".to_owned()),
        "http_proxy" => Some("plain:1".to_owned()),
        "NO_PROXY" => Some(no_proxy.to_owned()),
        "KUBERNETES_SERVICE_HOST" => Some("10.96.0.1".to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
        _ => None,
    };
    let account = tempfile::tempdir().unwrap();
    fs::write(account.path().join("token"), "t").unwrap();
    let settings = load_in(&options(kubeconfig, master), variable, account.path()).unwrap();
    settings.proxy.map(|proxy| proxy.to_string())
}

#[test]
fn proxies_come_from_the_kubeconfig_first_and_then_from_the_environment() {
    let without = kubeconfig("server: 'https://192.0.2.1'", "");
    let with = kubeconfig("server: 'https://192.0.2.1', proxy-url: 'socks5://own:2'", "");
    let (without, with) = (Some(without.path()), Some(with.path()));
    assert_eq!(proxied(with, None, "*").as_deref(), Some("socks5://own:2"));
    assert_eq!(proxied(without, None, "").as_deref(), Some("http://secure:1"));
    assert_eq!(proxied(without, None, "192.0.2.0/24"), None);
    assert_eq!(proxied(without, Some("http://192.0.2.9"), "").as_deref(), Some("http://plain:1"));
    assert_eq!(proxied(None, Some("192.0.2.9"), "").as_deref(), Some("http://plain:1"));
    assert_eq!(proxied(None, None, "").as_deref(), Some("http://secure:1"), "in a pod");
    assert_eq!(proxied(None, None, "10.96.0.0/12"), None, "in a pod");
}
