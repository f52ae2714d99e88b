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
