use super::*;

fn options(kubeconfig: Option<&Path>, master: Option<&str>) -> KubernetesOptions {
    KubernetesOptions {
        kubeconfig: kubeconfig.map(Path::to_owned),
        master: master.map(str::to_owned),
        ..KubernetesOptions::default()
    }
}

fn kubeconfig(server: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{{server}}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn the_server_comes_from_the_file_unless_a_master_is_given() {
    let file = kubeconfig("server: 'https://192.0.2.1:6443'");
    let config = load(&options(Some(file.path()), None)).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://192.0.2.1:6443/");
    assert!(!config.default_retry);
    let config = load(&options(Some(file.path()), Some("http://192.0.2.9:80"))).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "http://192.0.2.9:80/");
    assert!(config.auth_info.token.is_some(), "who we are still comes from the file");
}

#[tokio::test]
async fn a_file_without_server_does_when_a_master_is_given() {
    let file = kubeconfig("");
    let config = load(&options(Some(file.path()), Some("192.0.2.9:8080"))).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "http://192.0.2.9:8080/");
    assert!(load(&options(Some(file.path()), None)).await.is_err());
}

#[tokio::test]
async fn a_master_alone_is_enough() {
    let config = load(&options(None, Some("https://[2001:db8::1]:6443"))).await.unwrap();
    assert_eq!(config.cluster_url.host(), Some("[2001:db8::1]"));
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    for bad in ["ftp://192.0.2.1", "http://", "::", "http://a b"] {
        let error = load(&options(None, Some(bad))).await.unwrap_err().to_string();
        assert!(error.contains("master URL") && error.contains(bad), "{error}");
    }
    let missing = Path::new("/nonexistent/kubeconfig");
    let error = load(&options(Some(missing), None)).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/kubeconfig"), "{error}");
}

#[tokio::test]
async fn an_encrypted_client_can_be_built() {
    let file = kubeconfig("server: 'https://192.0.2.1:6443', insecure-skip-tls-verify: true");
    let config = load(&options(Some(file.path()), None)).await.unwrap();
    assert!(client(config).is_ok());
}

/// A self-signed certificate, only to be read.
const CA: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJjakNDQVJlZ0F3SUJBZ0lVSitaODUvd3VJcktvdlZ6NHVoTytSdnowc05nd0NnWUlLb1pJemowRUF3SXcKRFRFTE1Ba0dBMVVFQXd3Q1kyRXdJQmNOTWpZeE1USTJNREl4TmpNMFdoZ1BNakV5TmpFeE1ESXdNakUyTXpSYQpNQTB4Q3pBSkJnTlZCQU1NQW1OaE1Ga3dFd1lIS29aSXpqMENBUVlJS29aSXpqMERBUWNEUWdBRWFlN1ljcS82CmlaYXY5ZjZOc1ZXQzB3VkpyQmQrT0pYc2ZOVU9nZ2p1c28xclJHYlJwL3dqK2thcHNuTFN0cjN6RmV6VGIxWjUKODRMTXdTR0NYVHZBRTZOVE1GRXdIUVlEVlIwT0JCWUVGQjJQNGpzcDdBSjBFNnU3eFpFL0VGSWZ5WllsTUI4RwpBMVVkSXdRWU1CYUFGQjJQNGpzcDdBSjBFNnU3eFpFL0VGSWZ5WllsTUE4R0ExVWRFd0VCL3dRRk1BTUJBZjh3CkNnWUlLb1pJemowRUF3SURTUUF3UmdJaEFPREcvRlBmeDJwdlFMUFQzYnJqQU1WeEhIejM2bWh1MEhXcE5qK1gKZFhQeEFpRUEwMmpXcUp4N2htc2ZVMFY5QmpMZDFsajRrZzVsd2hJOVNWQmo0K1YwY2FZPQotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg==";

#[tokio::test]
async fn certificates_of_the_system_are_used_only_where_no_others_do() {
    let of_file = async |server: &str| {
        let file = kubeconfig(server);
        checks_by_system_certificates(&load(&options(Some(file.path()), None)).await.unwrap())
    };
    let ca = format!("server: 'https://192.0.2.1:6443', certificate-authority-data: {CA}");
    assert!(of_file("server: 'https://192.0.2.1:6443'").await);
    assert!(!of_file(&ca).await);
    assert!(!of_file("server: 'https://192.0.2.1:6443', insecure-skip-tls-verify: true").await);
    assert!(!of_file("server: 'http://192.0.2.1:8080'").await);
    let master = load(&options(None, Some("192.0.2.1:8080"))).await.unwrap();
    assert!(!checks_by_system_certificates(&master));
    assert!(client(master).is_ok());
}
