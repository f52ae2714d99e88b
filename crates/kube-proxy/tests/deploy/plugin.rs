//! `kubectl-kube_proxy`, with a double of kubectl that notes what it is asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::deploy;

/// Answers `get` with the pods it is made with, and writes its arguments to a file.
fn double(directory: &Path, pods: &str) {
    let path = directory.join("kubectl");
    let script = format!(
        "#!/bin/sh\nprintf '%s|' \"$@\" >> '{0}/asked'\necho >> '{0}/asked'\n\
         case \"$*\" in *' get '*) printf '{pods}' ;; *) echo answer; exit 3 ;; esac\n",
        directory.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the plugin; its output, and what kubectl was asked for.
fn run(pods: &str, environment: &[(&str, &str)], arguments: &[&str]) -> (Output, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    double(directory.path(), pods);
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    let output = Command::new(deploy().join("kubectl-kube_proxy"))
        .args(arguments)
        .env("PATH", path)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let asked = std::fs::read_to_string(directory.path().join("asked")).unwrap_or_default();
    (output, asked.lines().map(str::to_owned).collect())
}

#[test]
fn plugin_runs_the_command_in_the_pod_of_the_node() {
    let pods = "pod/kube-proxy-old\\npod/kube-proxy-x\\n";
    let (output, asked) = run(pods, &[], &["node-a", "explain", "--from", "a b", "10.96.0.1:80"]);
    assert_eq!(output.status.code(), Some(3), "the code of the command is handed on");
    assert_eq!(output.stdout, b"answer\n");
    assert_eq!(
        asked,
        [
            "--namespace|kube-system|get|pods|--output|name|--selector|k8s-app=kube-proxy|--field-selector|spec.nodeName=node-a,status.phase=Running|",
            "--namespace|kube-system|exec|pod/kube-proxy-x|--|/usr/local/bin/kube-proxy|explain|--from|a b|10.96.0.1:80|",
        ]
    );
    let elsewhere = [("KUBE_PROXY_NAMESPACE", "net"), ("KUBE_PROXY_SELECTOR", "app=proxy")];
    let (_, asked) = run(pods, &elsewhere, &["node-a", "check"]);
    assert!(asked[0].contains("--namespace|net|get") && asked[0].contains("|app=proxy|"));
}

#[test]
fn plugin_says_what_is_wrong() {
    let (output, asked) = run("", &[], &["node-b", "check"]);
    assert_eq!((output.status.code(), asked.len()), (Some(1), 1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "no kube-proxy pod runs on node node-b in namespace kube-system\n");
    for arguments in [&[][..], &["node-b"]] {
        let (output, asked) = run("", &[], arguments);
        assert_eq!((output.status.code(), asked.len()), (Some(2), 0));
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("usage: kubectl kube_proxy"));
    }
}
