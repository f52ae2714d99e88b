use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::{Look, follow, look};
use crate::testing::choose_mode;
use kube_proxy_config::{self as config, Command, Loaded, Start};

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn start(path: &Path) -> Start<'static> {
    Start {
        args: vec!["kube-proxy".into(), format!("--config={}", path.display()).into()],
        variable: &|_| None,
        host_name: &|| Ok("node-a".to_owned()),
        choose_mode: &choose_mode,
    }
}

fn loaded(start: &Start<'_>) -> Loaded {
    match config::load(start) {
        Ok(Command::Configured(loaded)) => *loaded,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_file_is_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let file = directory.path().join("config.conf");
    fs::write(&file, format!("{HEAD}mode: nftables\n")).unwrap();
    let mut loaded = loaded(&start(&file));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    loaded.config_file = Some(path.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // To read the pipe would block for good.
    runtime.block_on(async {
        let start = start(&path);
        let mut following = std::pin::pin!(follow(&start, &loaded));
        tokio::select! {
            biased;
            result = &mut following => panic!("{result:?}"),
            () = tokio::task::yield_now() => {}
        }
    });
}

#[test]
fn only_another_configuration_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    fs::write(&path, format!("{HEAD}clusterCIDR: 10.0.0.0/8\n")).unwrap();
    let start = start(&path);
    let loaded = loaded(&start);
    for (body, expected) in [
        ("clusterCIDR: 10.0.0.0/8 # the same\n", "same"),
        ("clusterCIDR: 10.0.0.0/8\nmode: iptables\n", "same"),
        ("clusterCIDR: 11.0.0.0/8\n", "other"),
        ("clusterCIDR: x\n", "broken"),
        ("", "other"),
    ] {
        fs::write(&path, format!("{HEAD}{body}")).unwrap();
        let found = match look(&start, &loaded) {
            Look::Same => "same",
            Look::Other => "other",
            Look::Broken(_) => "broken",
        };
        assert_eq!(found, expected, "{body:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(look(&start, &loaded), Look::Broken(_)), "while it is not there");
}

/// Lays out a directory as the kubelet does it for a ConfigMap, and puts a new version in place of the old one.
fn publish(directory: &Path, version: &str, body: &str) {
    let real = directory.join(format!("..{version}"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("config.conf"), format!("{HEAD}{body}")).unwrap();
    symlink(format!("..{version}"), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[test]
fn a_config_map_that_is_published_again_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    publish(directory.path(), "1", "clusterCIDR: 10.0.0.0/8\n");
    symlink("..data/config.conf", &path).unwrap();
    let start = start(&path);
    let loaded = loaded(&start);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let error = runtime.block_on(async {
        let following = follow(&start, &loaded);
        tokio::pin!(following);
        // The same content under another name does not end it.
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut following).await.is_err());
        publish(directory.path(), "2", "clusterCIDR: 10.0.0.0/8\n");
        fs::remove_dir_all(directory.path().join("..1")).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(600), &mut following).await.is_err());
        publish(directory.path(), "3", "clusterCIDR: 11.0.0.0/8\n");
        // Far less than until the next look without a notice.
        tokio::time::timeout(Duration::from_secs(30), following).await.expect("a notice")
    });
    assert!(error.unwrap_err().to_string().ends_with("config.conf has changed: restarting"));
}
