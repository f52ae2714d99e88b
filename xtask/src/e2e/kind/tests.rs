use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser;

use super::site::Kind;
use super::*;
use crate::e2e::checks::{From, Site as _};
use crate::e2e::objects::App;

mod fakes;

use self::fakes::{Fakes, RELEASED};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// A whole run on a cluster of fakes.
fn run_on(fakes: &Fakes, words: &[&str]) -> anyhow::Result<()> {
    let mut line = vec!["e2e", "--image=kube-proxy:given", "--logs=logs"];
    line.extend(words);
    let arguments = Line::try_parse_from(line).expect("arguments").arguments;
    let modes: Vec<&str> = arguments.mode.iter().map(String::as_str).collect();
    run_with(fakes.tools(), &arguments, &modes)
}

/// The kube-proxies that the cluster had one after the other: image, and what was done to the variable.
fn rollouts(fakes: &Fakes) -> Vec<String> {
    let calls = fakes.calls();
    let value = |call: &String| {
        let set = call.split("daemonset/kube-proxy ").nth(1);
        set.filter(|_| call.contains(" set ")).map(str::to_owned)
    };
    calls.iter().filter_map(value).collect()
}

const OURS: &str = "kube-proxy=kube-proxy:given";

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
fn each_mode_that_the_kernel_has_is_checked() {
    let fakes = Fakes::new();
    run_on(&fakes, &[]).unwrap();
    let modes = ["userspace", "nftables", "iptables"];
    let expected: Vec<_> = modes
        .iter()
        .flat_map(|mode| [OURS.to_owned(), format!("KUBE_PROXY_PROXY_MODE={mode}")])
        .collect();
    assert_eq!(rollouts(&fakes), expected, "the fake kernel has no ip_vs");
    let fakes = Fakes::new();
    fs::write(fakes.file("ip_vs"), "").unwrap();
    run_on(&fakes, &[]).unwrap();
    assert_eq!(rollouts(&fakes).len(), 8);
    assert_eq!(rollouts(&fakes)[1], "KUBE_PROXY_PROXY_MODE=ipvs");
    let calls = fakes.calls();
    assert!(calls.first().is_some_and(|call| call.starts_with("docker info")), "{calls:#?}");
    let last = "kind delete cluster --name kube-proxy-e2e";
    assert_eq!(calls.last().map(String::as_str), Some(last));
    for call in calls.iter().filter(|call| call.starts_with("kubectl")) {
        assert!(call.starts_with("kubectl --context=kind-kube-proxy-e2e "), "{call}");
    }
}

/// The old pods answer no longer, but are there, and Running, while their shutdown is delayed.
#[test]
fn pods_that_are_about_to_end_are_not_waited_for() {
    let fakes = Fakes::new();
    let mut kind = Kind::new(fakes.tools(), POD_IMAGE);
    let app = App::new("web-rolling", 6, 3);
    let old = kind.deploy(&app).unwrap();
    let new = kind.roll(&app).unwrap();
    assert_eq!(old, ["web-rolling-0-1", "web-rolling-0-2", "web-rolling-0-3"]);
    assert_eq!(new, ["web-rolling-1-1", "web-rolling-1-2", "web-rolling-1-3"]);
    let listed = kind.tools.output("kubectl", &["get", "pods", "--selector=app=web-rolling"]);
    assert!(listed.unwrap().contains("web-rolling-0-1"), "the fake lists old pods too");
}

#[test]
fn connections_that_fail_during_a_rolling_update_are_counted() {
    let fakes = Fakes::new();
    let mut kind = Kind::new(fakes.tools(), POD_IMAGE);
    let app = App::new("web-rolling", 6, 3);
    kind.deploy(&app).unwrap();
    fs::write(fakes.file("curl-fails"), "").unwrap();
    let error = format!("{:#}", kind.roll(&app).unwrap_err());
    assert!(error.ends_with(" connections failed"), "{error}");
}

#[test]
fn a_rolling_update_that_does_not_begin_leaves_no_load_behind() {
    let fakes = Fakes::new();
    let mut kind = Kind::new(fakes.tools(), POD_IMAGE);
    let app = App::new("web-rolling", 6, 3);
    kind.deploy(&app).unwrap();
    fakes.fail("rollout restart");
    // It would not return while the load runs.
    let error = format!("{:#}", kind.roll(&app).unwrap_err());
    assert!(error.contains("rollout restart"), "{error}");
}

#[test]
fn logs_and_removal_do_not_change_the_result() {
    let fakes = Fakes::new();
    fakes.fail("export logs");
    fakes.fail("delete cluster");
    run_on(&fakes, &["--mode=nftables"]).unwrap();
    let calls = fakes.calls();
    assert!(calls.iter().any(|call| call == "kind export logs logs --name kube-proxy-e2e"));
    assert!(calls.iter().any(|call| call.starts_with("kind delete cluster")), "{calls:#?}");
}

#[test]
fn a_mode_that_fails_does_not_keep_the_next_from_its_checks() {
    let fakes = Fakes::new();
    fakes.fail("PROXY_MODE=userspace");
    let error = run_on(&fakes, &["--mode=userspace", "--mode=iptables", "--rollback"]);
    assert_eq!(error.unwrap_err().to_string(), "1 of 3 failed");
    let all = rollouts(&fakes);
    assert!(all.contains(&"KUBE_PROXY_PROXY_MODE=iptables".to_owned()), "{all:?}");
    assert_eq!(all[all.len() - 2], format!("kube-proxy={RELEASED}"));
    let calls = fakes.calls();
    let checked = calls.iter().filter(|call| call.contains("rollout restart"));
    assert_eq!(checked.count(), 2, "the checks of the second mode, and of the released one");
    assert!(calls.iter().any(|call| call.starts_with("kind export logs")));
}

#[test]
fn the_released_kube_proxy_comes_back_and_is_checked() {
    let fakes = Fakes::new();
    run_on(&fakes, &["--mode=nftables", "--rollback"]).unwrap();
    assert_eq!(
        rollouts(&fakes),
        [
            OURS,
            "KUBE_PROXY_PROXY_MODE=nftables",
            OURS,
            "KUBE_PROXY_PROXY_MODE=iptables",
            &format!("kube-proxy={RELEASED}"),
            "KUBE_PROXY_PROXY_MODE-",
        ]
    );
    let calls = fakes.calls();
    let last_set = calls.iter().rposition(|call| call.contains("PROXY_MODE-")).unwrap();
    let checks = calls[last_set..].iter().filter(|call| call.contains("rollout restart"));
    assert_eq!(checks.count(), 1, "{calls:#?}");
}

#[test]
fn images_and_gates_reach_the_cluster() {
    let fakes = Fakes::new();
    run_on(
        &fakes,
        &[
            "--mode=iptables",
            "--node-image=node:given",
            "--pod-image=pod:given",
            "--feature-gate=KubeletInUserNamespace=true",
            "--feature-gate=Other=false",
            "--keep",
        ],
    )
    .unwrap();
    let calls = fakes.calls();
    let starts = |text: &str| calls.iter().any(|call| call.starts_with(text));
    for image in ["kube-proxy:given", "pod:given"] {
        assert!(starts(&format!("kind load docker-image {image} ")), "{calls:#?}");
    }
    assert!(calls.iter().any(|call| call.ends_with("--config - --image node:given")), "{calls:#?}");
    assert!(!starts("kind delete"), "{calls:#?}");
    let config = fs::read_to_string(fakes.file("cluster")).unwrap();
    assert!(config.starts_with(CONFIG), "{config}");
    let gates = "featureGates:\n  KubeletInUserNamespace: true\n  Other: false\n";
    assert!(config.ends_with(gates), "{config}");
    let applied = fs::read_to_string(fakes.file("applied")).unwrap();
    assert!(!applied.contains(POD_IMAGE) && applied.contains(r#""image":"pod:given""#));
}

#[test]
fn gates_are_read() {
    assert_eq!(gate("A=true"), Ok(("A".to_owned(), true)));
    for wrong in ["A", "=true", "A=yes", "A: b=true"] {
        assert!(gate(wrong).is_err(), "{wrong}");
    }
    assert_eq!(config(&[]), CONFIG);
}

#[test]
fn the_site_reads_what_the_programs_say() {
    let fakes = Fakes::new();
    let mut kind = Kind::new(fakes.tools(), POD_IMAGE);
    let app = App::new("web-node-port", 2, 2).node_port();
    assert_eq!(kind.deploy(&app).unwrap().len(), 2);
    assert_eq!(kind.cluster_ip(&app).unwrap().to_string(), "10.96.0.2");
    assert_eq!(kind.node_port(&app).unwrap().to_string(), "172.18.0.3:30002");
    let to = "10.96.0.2:80".parse().unwrap();
    for from in [From::Pod, From::Node] {
        assert!(kind.ask(from, to).unwrap().unwrap().starts_with("web-node-port-0-"));
    }
    assert!(kind.resolves().unwrap());
    assert_eq!(kind.on_first_node(&app).unwrap(), ["web-node-port-0-1".to_owned()].into());
    let calls = fakes.calls();
    assert!(
        calls.iter().any(|call| call.starts_with("docker exec kube-proxy-e2e-worker sh -c curl"))
    );
    let exec = "kubectl --context=kind-kube-proxy-e2e exec client -- sh -c curl";
    assert!(calls.iter().any(|call| call.starts_with(exec)), "{calls:#?}");
}

#[test]
fn a_failing_program_is_named_with_its_arguments() {
    let tools = Tools { path: "/usr/bin:/bin".into() };
    let error = format!("{:#}", tools.output("false", &["--x"]).unwrap_err());
    assert!(error.contains("`PATH=/usr/bin:/bin false --x` failed"), "{error}");
}
