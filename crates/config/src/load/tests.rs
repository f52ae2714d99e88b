use std::time::Duration;

use super::{Command, Start, Task, load};
use crate::testing::{Given, HEAD, choose_mode, file, flags};
use crate::{Effective, IptablesVariant, Mode, ModeOrigin, Source, VersionFormat};

mod decoding;
mod defaults;
mod kubeadm;

fn of(given: &Given<'_>) -> Effective {
    given.loaded().effective
}

#[test]
fn defaults_of_nftables_and_ipv6() {
    let loaded = flags("--proxy-mode=nftables --bind-address=::");
    let config = &loaded.configuration;
    assert_eq!(config.node_port_addresses, ["primary"]);
    assert_eq!(config.healthz_bind_address, "[::]:10256");
    assert_eq!(config.metrics_bind_address, "[::1]:10249");
}

#[test]
fn an_empty_file_and_no_file_agree_but_for_ipvs() {
    assert_eq!(file("").effective, flags("").effective);
    let (from_file, from_flags) =
        (file("mode: ipvs").effective, flags("--proxy-mode=ipvs").effective);
    assert_eq!(from_file.min_sync_period, Duration::ZERO);
    assert_eq!(from_flags.min_sync_period, Duration::from_secs(1));
}

#[test]
fn a_file_replaces_flags_and_the_environment_overrides_it() {
    let body = Some(
        "mode: ipvs\nclusterCIDR: 10.0.0.0/8\nhostnameOverride: from-file\nlogging: {verbosity: 1, vmodule: [{filePattern: a, verbosity: 1}]}",
    );
    let given = Given {
        flags: "--proxy-mode=nftables --healthz-port=1 --hostname-override=From-Flag --master=http://m -v=3 --vmodule=b=2 --iptables-variant=nft --nftables-flowtable-threshold=20",
        variables: &[
            ("KUBE_PROXY_CLUSTER_CIDR", "11.0.0.0/8"),
            ("KUBE_PROXY_V", "2"),
            ("KUBE_PROXY_VMODULE", "c=3"),
            ("KUBE_PROXY_SERVICE_HOST", "10.0.0.1"),
        ],
        file: body,
    };
    let loaded = given.loaded();
    let effective = &loaded.effective;
    assert_eq!(effective.mode, Mode::Ipvs);
    assert_eq!(loaded.configuration.cluster_cidr, "11.0.0.0/8");
    assert_eq!(effective.node_name, "from-flag");
    assert_eq!(effective.logging.verbosity, 3);
    assert_eq!(effective.iptables_variant, IptablesVariant::Nft);
    assert_eq!(effective.offload_after.map(u32::from), Some(20));
    let patterns: Vec<_> =
        effective.logging.vmodule.iter().map(|entry| entry.file_pattern.as_str()).collect();
    assert_eq!(patterns, ["b", "c", "a"]);
    assert_eq!(effective.healthz_address.unwrap().to_string(), "0.0.0.0:10256");
    let Source::Kubernetes(kubernetes) = &effective.source else { panic!("{effective:?}") };
    assert_eq!(kubernetes.master.as_deref(), Some("http://m"));
    assert_eq!(
        loaded.warnings,
        [
            "--config is given, so these flags have no effect: --proxy-mode, --healthz-port",
            "--healthz-port is deprecated: use --healthz-bind-address",
        ]
    );
    assert_eq!(of(&Given { flags: "", ..given }).node_name, "from-file");
}

#[test]
fn auto_is_a_mode_like_any_other_once_it_is_chosen() {
    let chosen = ModeOrigin::Chosen("for the test".to_owned());
    for loaded in [
        flags("--proxy-mode=auto --iptables-sync-period=7s --masquerade-all"),
        file("mode: auto\nnftables: {syncPeriod: 7s, masqueradeAll: true}"),
    ] {
        assert_eq!(loaded.mode_origin, chosen);
        assert_eq!(loaded.configuration.mode, "nftables");
        assert_eq!(loaded.configuration.node_port_addresses, ["primary"]);
        let effective = loaded.effective;
        assert_eq!((effective.mode, effective.sync_period.as_secs()), (Mode::Nftables, 7));
        assert!(effective.masquerade_all);
    }
    for (loaded, origin) in [
        (flags(""), ModeOrigin::Default),
        (flags("--proxy-mode="), ModeOrigin::Default),
        (file("mode: ''"), ModeOrigin::Default),
        (file(""), ModeOrigin::Default),
        (flags("--proxy-mode=iptables"), ModeOrigin::Named),
        (file("mode: iptables"), ModeOrigin::Named),
    ] {
        assert_eq!((loaded.effective.mode, loaded.mode_origin), (Mode::Iptables, origin));
    }
}

#[test]
fn flags_win_over_the_environment() {
    let variables = &[
        ("KUBE_PROXY_PROXY_MODE", "ipvs"),
        ("KUBE_PROXY_IPVS_SCHEDULER", "lc"),
        ("KUBE_PROXY_MANIFESTS", "/a"),
        ("KUBE_PROXY_INIT_ONLY", "true"),
    ];
    let given = Given { flags: "--ipvs-scheduler=sh --manifests=/b", variables, file: None };
    let loaded = given.loaded();
    assert_eq!(loaded.effective.mode, Mode::Ipvs);
    assert_eq!(loaded.effective.ipvs.scheduler, "sh");
    assert_eq!(loaded.effective.source, Source::Manifests("/b".into()));
    assert_eq!(loaded.task, Task::InitOnly);
}

#[test]
fn the_environment_may_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    std::fs::write(&path, format!("{HEAD}mode: nftables\n")).unwrap();
    let path = path.display().to_string();
    let loaded =
        Given { variables: &[("KUBE_PROXY_CONFIG", path.as_str())], ..Given::default() }.loaded();
    assert_eq!(loaded.effective.mode, Mode::Nftables);
    assert_eq!(loaded.config_file.unwrap().display().to_string(), path);
}

#[test]
fn zero_in_a_file_is_unset_and_in_a_flag_is_zero() {
    let body = "iptables: {minSyncPeriod: 0s, masqueradeBit: 0}\nconntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s}\noomScoreAdj: 0\n";
    let effective = file(body).effective;
    assert_eq!(effective.min_sync_period, Duration::from_secs(1));
    assert_eq!(effective.masquerade_mark, 1);
    assert_eq!(effective.conntrack.max_per_core, None);
    assert_eq!(effective.conntrack.tcp_established_timeout, None);
    assert_eq!(effective.oom_score_adj, Some(0));
    assert_eq!(flags("--iptables-min-sync-period=0s").effective.min_sync_period, Duration::ZERO);
    let variables = &[("KUBE_PROXY_IPTABLES_MIN_SYNC_PERIOD", "0")];
    let given = Given { variables, file: Some(""), ..Given::default() };
    assert_eq!(of(&given).min_sync_period, Duration::ZERO);
}

#[test]
fn periods_and_masquerading_follow_the_mode() {
    let line = "--iptables-sync-period=7s --iptables-min-sync-period=2s --ipvs-sync-period=9s --ipvs-min-sync-period=3s --masquerade-all --iptables-masquerade-bit=3";
    for (mode, sync, min, mark) in [
        ("iptables", 7, 2, 8),
        ("nftables", 7, 2, 1 << 14),
        ("userspace", 7, 2, 8),
        ("ipvs", 9, 3, 8),
    ] {
        let effective = flags(&format!("{line} --proxy-mode={mode}")).effective;
        assert_eq!(effective.sync_period, Duration::from_secs(sync), "{mode}");
        assert_eq!(effective.min_sync_period, Duration::from_secs(min), "{mode}");
        assert_eq!(effective.masquerade_mark, mark, "{mode}");
        assert!(effective.masquerade_all, "{mode}");
    }
    let body = "iptables: {masqueradeAll: true, syncPeriod: 5s}\nnftables: {masqueradeBit: 2, syncPeriod: 6s}\nipvs: {syncPeriod: 8s}\n";
    for (mode, sync, all, mark) in
        [("", 5, true, 1 << 14), ("nftables", 6, false, 4), ("ipvs", 8, true, 1 << 14)]
    {
        let effective = file(&format!("{body}mode: '{mode}'\n")).effective;
        assert_eq!(effective.sync_period, Duration::from_secs(sync), "{mode}");
        assert_eq!((effective.masquerade_all, effective.masquerade_mark), (all, mark), "{mode}");
    }
}

#[test]
fn health_and_metrics_addresses() {
    for (line, healthz, metrics) in [
        ("", "0.0.0.0:10256", "127.0.0.1:10249"),
        ("--bind-address=10.0.0.1", "0.0.0.0:10256", "127.0.0.1:10249"),
        ("--bind-address=fd00::1", "[::]:10256", "[::1]:10249"),
        ("--healthz-bind-address=1.2.3.4 --metrics-bind-address=::", "1.2.3.4:10256", "[::]:10249"),
        ("--healthz-bind-address= --metrics-bind-address=", "none", "none"),
        ("--healthz-port=0 --metrics-port=0", "none", "none"),
        ("--healthz-port=1 --metrics-port=2", "0.0.0.0:1", "127.0.0.1:2"),
        ("--healthz-port=1 --bind-address=::", "[::]:1", "[::1]:10249"),
        ("--healthz-port=1 --healthz-bind-address=::1", "[::1]:1", "127.0.0.1:10249"),
        ("--healthz-port=1 --healthz-bind-address=1.2.3.4:5", "1.2.3.4:5", "127.0.0.1:10249"),
        ("--metrics-bind-address=disabled", "0.0.0.0:10256", "none"),
    ] {
        let effective = flags(line).effective;
        let text = |address: Option<std::net::SocketAddr>| {
            address.map_or("none".to_owned(), |address| address.to_string())
        };
        assert_eq!(text(effective.healthz_address), healthz, "{line}");
        assert_eq!(text(effective.metrics_address), metrics, "{line}");
    }
    let effective =
        file("healthzBindAddress: ''\nmetricsBindAddress: '::1'\nbindAddress: '::'").effective;
    assert_eq!(effective.healthz_address.unwrap().to_string(), "[::]:10256");
    assert_eq!(effective.metrics_address.unwrap().to_string(), "[::1]:10249");
    assert_eq!(file("healthzBindAddress: disabled").effective.healthz_address, None);
    let variables = &[("KUBE_PROXY_METRICS_BIND_ADDRESS", ""), ("KUBE_PROXY_HEALTHZ_PORT", "0")];
    let effective = of(&Given { variables, file: Some(""), ..Given::default() });
    assert_eq!((effective.healthz_address, effective.metrics_address), (None, None));
}

#[test]
fn node_names() {
    assert_eq!(flags("").effective.node_name, "node-1.example");
    assert_eq!(flags("--hostname-override=ABC").effective.node_name, "abc");
    assert_eq!(file("hostnameOverride: ' Abc '").effective.node_name, "abc");
    let start = Start {
        args: vec!["kube-proxy".into()],
        variable: &|_| None,
        host_name: &|| Ok(" ".to_owned()),
        choose_mode: &choose_mode,
    };
    assert_eq!(
        load(&start).unwrap_err().to_string(),
        "failed complete: failed to get the host name: the host name is empty; set --hostname-override"
    );
}

#[test]
fn flags_without_effect_are_named() {
    assert_eq!(
        flags("--log_dir=/x --skip_headers --logtostderr=true --boot-id-file=a --skip-log-headers")
            .warnings,
        ["these flags have no effect here: --log-dir, --skip-headers"]
    );
    assert_eq!(
        flags("--metrics-port=1 --healthz-port=2").warnings,
        [
            "--healthz-port is deprecated: use --healthz-bind-address",
            "--metrics-port is deprecated: use --metrics-bind-address",
        ]
    );
    assert_eq!(
        file("winkernel: {enableDSR: true, networkName: ''}\nwindowsRunAsService: true").warnings,
        ["these fields are for Windows and have no effect here: winkernel, windowsRunAsService"]
    );
    assert!(file("winkernel: {enableDSR: false, networkName: ''}").warnings.is_empty());
    assert_eq!(
        flags("--manifests=x --master=y").warnings,
        ["--manifests is given, so --kubeconfig and --master have no effect"]
    );
}

#[test]
fn tasks() {
    assert_eq!(flags("--cleanup").task, Task::Cleanup);
    assert_eq!(flags("--cleanup=false").task, Task::Run);
    assert_eq!(
        flags("--init-only --cleanup --write-config-to=x").task,
        Task::WriteConfig("x".into())
    );
    let command = |line| Given { flags: line, ..Given::default() }.load().unwrap();
    assert_eq!(command("--version"), Command::Version(VersionFormat::Short));
    assert_eq!(
        command("--version=raw --config=/no/such/file"),
        Command::Version(VersionFormat::Raw)
    );
    assert!(matches!(command("--version=false"), Command::Configured(_)));
    for (line, part) in [
        ("--completion=bash", "complete -F _kube__proxy"),
        ("--completion=zsh", "#compdef kube-proxy"),
        ("--completion fish", "complete -c kube-proxy -l proxy-mode"),
        ("--man", ".TH kube-proxy 1"),
    ] {
        let Command::Print(text) = command(line) else { panic!("{line} prints nothing") };
        assert!(text.contains(part), "{line}: no {part:?} in:\n{text}");
        assert!(text.contains("proxy-mode") || text.contains("proxy\\-mode"), "{line}:\n{text}");
        assert!(!text.contains("ARGUMENT"), "{line}:\n{text}");
    }
    for line in ["--help", "-h"] {
        let Command::Print(text) = command(line) else { panic!("no help") };
        assert!(text.contains("Usage: kube-proxy"));
    }
}

#[test]
fn flagz_shows_what_counts() {
    let given = Given {
        flags: "--proxy-mode=nftables --cluster-cidr=1.0.0.0/8 --v=4 --vmodule=a=1,b=2",
        variables: &[("KUBE_PROXY_OOM_SCORE_ADJ", "5"), ("KUBE_PROXY_IPTABLES_VARIANT", "nft")],
        file: Some("clusterCIDR: 10.0.0.0/8\nfeatureGates: {WatchListClient: false}\n"),
    };
    let loaded = given.loaded();
    let value = |flag: &str| {
        let found = loaded.flags.iter().find(|(name, _)| name == flag);
        found.map_or_else(|| panic!("no --{flag}"), |(_, value)| value.as_str())
    };
    for (flag, expected) in [
        ("proxy-mode", "iptables"),
        ("cluster-cidr", "10.0.0.0/8"),
        ("v", "4"),
        ("vmodule", "a=1,b=2"),
        ("oom-score-adj", "5"),
        ("iptables-variant", "nft"),
        ("feature-gates", "WatchListClient=false"),
        ("cleanup", "false"),
        ("manifests", ""),
        ("iptables-sync-period", "30s"),
        ("healthz-stale-after", "0"),
        ("nodeport-addresses", ""),
    ] {
        assert_eq!(value(flag), expected, "--{flag}");
    }
    assert!(value("config").ends_with("/config.conf"));
    assert!(loaded.flags.is_sorted());
}
