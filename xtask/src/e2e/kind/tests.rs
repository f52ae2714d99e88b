use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// Programs that write down how they were called, and answer as the cluster would.
fn tools(directory: &Path, programs: &[&str]) -> Tools {
    for program in programs {
        let path = directory.join(program);
        let script = format!(
            "#!/bin/sh\necho {program} \"$*\" >> {log}\ncase \"$*\" in\n\
             *clusterIP*) echo 10.96.3.4 ;;\n*nodePort*) echo 30002 ;;\n*InternalIP*) echo 172.18.0.3 fc00::3 ;;\n\
             *'get pods'*) echo web-a web-b ;;\n*curl*) echo web-a ;;\n*nslookup*) echo Address: 10.96.0.1 ;;\nesac\n",
            log = directory.join("log").display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::join_paths([directory, Path::new("/usr/bin"), Path::new("/bin")]);
    Tools { path: path.unwrap() }
}

fn calls(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("log")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let tools = Tools { path: directory.path().into() };
    let text = format!("{:#}", tools.check().unwrap_err());
    assert_eq!(text.lines().count(), 1);
    for part in ["docker (", "kind (go install", "kubectl (", "e2e --local"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_image_and_the_mode_are_all_that_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let kind = Kind { tools: tools(directory.path(), &["kubectl"]) };
    kind.use_mode("kube-proxy:e2e", "nftables").unwrap();
    let at = " --context=kind-kube-proxy-e2e";
    let set = "kubectl --namespace=kube-system";
    assert_eq!(
        calls(directory.path()),
        [
            format!("{set} set image daemonset/kube-proxy kube-proxy=kube-proxy:e2e{at}"),
            format!("{set} set env daemonset/kube-proxy KUBE_PROXY_PROXY_MODE=nftables{at}"),
            format!("{set} rollout status daemonset/kube-proxy --timeout=180s{at}"),
        ]
    );
}

#[test]
fn the_site_reads_what_the_programs_say() {
    let directory = tempfile::tempdir().unwrap();
    let mut kind = Kind { tools: tools(directory.path(), &["kubectl", "docker"]) };
    let app = App::new("web", 1, 2).node_port();
    assert_eq!(kind.deploy(&app).unwrap(), ["web-a", "web-b"]);
    assert_eq!(kind.cluster_ip(&app).unwrap().to_string(), "10.96.3.4");
    assert_eq!(kind.node_port(&app).unwrap().to_string(), "172.18.0.3:30002");
    let to = "10.96.3.4:80".parse().unwrap();
    for from in [From::Pod, From::Node] {
        assert_eq!(kind.ask(from, to).unwrap().as_deref(), Some("web-a"));
    }
    assert!(kind.resolves().unwrap());
    assert_eq!(kind.on_first_node(&app).unwrap().len(), 2);
    let calls = calls(directory.path());
    assert!(
        calls.iter().any(|call| call.starts_with("docker exec kube-proxy-e2e-worker sh -c curl"))
    );
    assert!(calls.iter().any(|call| call.starts_with("kubectl exec client -- sh -c curl")));
}

#[test]
fn a_failing_program_is_named_with_its_arguments() {
    let tools = Tools { path: "/usr/bin:/bin".into() };
    let error = format!("{:#}", tools.output("false", &["--x"]).unwrap_err());
    assert!(error.contains("`PATH=/usr/bin:/bin false --x` failed"), "{error}");
}
