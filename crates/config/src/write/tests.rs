use expect_test::expect;
use proptest::prelude::*;

use super::{to_yaml, write_config};
use crate::load::Loaded;
use crate::testing::{HEAD, file, flags};

/// Writes the configuration, loads the file, and compares.
fn reloaded(loaded: &Loaded) -> Loaded {
    let yaml = to_yaml(&loaded.configuration).unwrap();
    let lines: Vec<_> = yaml.lines().filter(|line| !HEAD.contains(line)).collect();
    file(&lines.join("\n"))
}

#[test]
fn a_written_configuration_loads_to_the_same() {
    for line in [
        "",
        "--proxy-mode=ipvs --ipvs-strict-arp --ipvs-exclude-cidrs=10.0.0.0/8,fd00::/8 --ipvs-min-sync-period=0 --ipvs-tcp-timeout=1m",
        "--proxy-mode=nftables --iptables-min-sync-period=0 --iptables-sync-period=1h2m3.5s --masquerade-all",
        "--proxy-mode=userspace --udp-timeout=3s --proxy-port-range=100-200",
        "--healthz-bind-address= --metrics-port=0 --bind-address=::",
        "--iptables-min-sync-period=0 --iptables-masquerade-bit=0 --oom-score-adj=0 --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0",
        "--feature-gates=AllAlpha=true,ComponentFlagz=false --log-text-info-buffer-size=64Ki --log-text-split-stream --vmodule=a=1,b*=2 -v=9",
        "--kube-api-qps=0 --kube-api-burst=0 --kube-api-content-type= --iptables-localhost-nodeports=false",
        "--kube-api-qps=-1 --kubeconfig=yes --cluster-cidr=10.0.0.0/8,fd00::/8 --nodeport-addresses=primary --hostname-override=1e3 --profiling",
        "--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=0x10 --pod-bridge-interface=null",
    ] {
        let loaded = flags(line);
        let again = reloaded(&loaded);
        assert_eq!(again.effective, loaded.effective, "{line}");
        assert_eq!(again.warnings, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn only_the_periods_of_the_active_mode_are_written() {
    let yaml = to_yaml(&flags("--proxy-mode=nftables").configuration).unwrap();
    let periods: Vec<_> = yaml.lines().filter(|line| line.contains("yncPeriod")).collect();
    expect![[r#"
        [
            "configSyncPeriod: 15m0s",
            "  minSyncPeriod: 0s",
            "  syncPeriod: 0s",
            "  minSyncPeriod: 0s",
            "  syncPeriod: 0s",
            "  minSyncPeriod: 1s",
            "  syncPeriod: 30s",
        ]
    "#]]
    .assert_debug_eq(&periods);
}

#[test]
fn an_unwritable_file_is_an_error() {
    let config = flags("").configuration;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("written.yaml");
    write_config(&config, &path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), to_yaml(&config).unwrap());
    let error = write_config(&config, "/no/such/directory/x".as_ref()).unwrap_err().to_string();
    assert!(error.starts_with("failed to write the configuration to /no/such/directory/x: "));
}

proptest! {
    #[test]
    fn any_valid_combination_survives_writing(
        mode in prop_oneof![Just("iptables"), Just("ipvs"), Just("nftables"), Just("userspace")],
        name in "[a-z0-9][a-z0-9.-]{0,20}",
        min in 0_u32..30_000,
        bit in 0..32,
        qps in -100_i32..100,
        liberal in any::<bool>(),
        established in 0_u32..100_000,
        bridge in "[!-~]{1,15}",
    ) {
        let loaded = flags(&format!(
            "--proxy-mode={mode} --hostname-override={name} --iptables-min-sync-period={min}ms \
             --iptables-masquerade-bit={bit} --kube-api-qps={qps}.25 --conntrack-tcp-be-liberal={liberal} \
             --conntrack-tcp-timeout-established={established}ms --detect-local-mode=BridgeInterface \
             --pod-bridge-interface={bridge} --kubeconfig={bridge}"
        ));
        prop_assert_eq!(reloaded(&loaded).effective, loaded.effective);
    }
}
