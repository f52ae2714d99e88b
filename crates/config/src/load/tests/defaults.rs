//! What an unconfigured program does.

use expect_test::expect;

use crate::load::{Loaded, Task};
use crate::testing::flags;
use crate::to_yaml;

#[test]
fn defaults() {
    expect![[r#"
        apiVersion: kubeproxy.config.k8s.io/v1alpha1
        bindAddress: "0.0.0.0"
        bindAddressHardFail: false
        clientConnection:
          acceptContentTypes: ""
          burst: 10
          contentType: application/vnd.kubernetes.protobuf
          kubeconfig: ""
          qps: 5.0
        clusterCIDR: ""
        configSyncPeriod: 15m0s
        conntrack:
          maxPerCore: 32768
          min: 131072
          tcpBeLiberal: false
          tcpCloseWaitTimeout: 1h0m0s
          tcpEstablishedTimeout: 24h0m0s
          udpStreamTimeout: 0s
          udpTimeout: 0s
        detectLocal:
          bridgeInterface: ""
          interfaceNamePrefix: ""
        detectLocalMode: ClusterCIDR
        enableProfiling: false
        featureGates: {}
        healthzBindAddress: 0.0.0.0:10256
        hostnameOverride: ""
        iptables:
          localhostNodePorts: true
          masqueradeAll: false
          masqueradeBit: 14
          minSyncPeriod: 1s
          syncPeriod: 30s
        ipvs:
          excludeCIDRs: []
          minSyncPeriod: 0s
          scheduler: ""
          strictARP: false
          syncPeriod: 0s
          tcpFinTimeout: 0s
          tcpTimeout: 0s
          udpTimeout: 0s
        kind: KubeProxyConfiguration
        logging:
          flushFrequency: 5s
          format: text
          options:
            json:
              infoBufferSize: "0"
              splitStream: false
            text:
              infoBufferSize: "0"
              splitStream: false
          verbosity: 0
          vmodule: []
        metricsBindAddress: 127.0.0.1:10249
        mode: iptables
        nftables:
          masqueradeAll: false
          masqueradeBit: 14
          minSyncPeriod: 0s
          syncPeriod: 0s
        nodePortAddresses: []
        oomScoreAdj: -999
        portRange: ""
        showHiddenMetricsForVersion: ""
        windowsRunAsService: false
        winkernel:
          enableDSR: false
          forwardHealthCheckVip: false
          networkName: ""
          rootHnsEndpointName: ""
          sourceVip: ""
    "#]]
    .assert_eq(&to_yaml(&flags("").configuration).unwrap());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one literal")]
fn defaults_as_the_program_sees_them() {
    let Loaded { effective, warnings, task, config_file, .. } = flags("");
    expect![[r#"
        Effective {
            mode: Iptables,
            source: Kubernetes(
                KubernetesSource {
                    kubeconfig: None,
                    master: None,
                    accept_content_types: "",
                    content_type: "application/vnd.kubernetes.protobuf",
                    qps: 5.0,
                    burst: 10,
                },
            ),
            node_name: "node-1.example",
            bind_address: 0.0.0.0,
            healthz_address: Some(
                0.0.0.0:10256,
            ),
            healthz_stale_after: None,
            metrics_address: Some(
                127.0.0.1:10249,
            ),
            bind_address_hard_fail: false,
            profiling: false,
            debug_pages: true,
            service_metrics_limit: 100,
            no_local_endpoints: Drop,
            zone_spill: Below(
                0,
            ),
            lb_algorithm: Random,
            sync_period: 30s,
            min_sync_period: 1s,
            masquerade_all: false,
            masquerade_mark: 16384,
            localhost_node_ports: true,
            nftables_localhost_node_ports: None,
            iptables_variant: Auto,
            trust: Trust {
                special_endpoints: false,
                external_ips: None,
            },
            offload_after: None,
            ipvs: IpvsSettings {
                scheduler: "rr",
                exclude_cidrs: [],
                strict_arp: false,
                tcp_timeout: None,
                tcp_fin_timeout: None,
                udp_timeout: None,
                local_fallback: false,
                mark_mask: 4223,
                drain_timeout: 86400s,
            },
            userspace: UserspaceSettings {
                port_range: None,
                udp_timeout: 250ms,
                rest: 0ns,
            },
            conntrack: ConntrackSettings {
                max_per_core: Some(
                    32768,
                ),
                min: 131072,
                tcp_established_timeout: Some(
                    86400s,
                ),
                tcp_close_wait_timeout: Some(
                    3600s,
                ),
                udp_timeout: None,
                udp_stream_timeout: None,
                tcp_be_liberal: false,
            },
            local_traffic: ClusterCidr(
                [],
            ),
            node_ports: NodePorts {
                primary: false,
                within: [],
            },
            oom_score_adj: Some(
                -999,
            ),
            logging: LoggingSettings {
                json: false,
                verbosity: 0,
                vmodule: [],
                split_stream: false,
            },
            feature_gates: FeatureGates(
                {
                    "AllowServiceExternalIPs": true,
                    "ComponentFlagz": true,
                    "ComponentStatusz": true,
                    "ContextualLogging": true,
                    "InOrderInformersBatchProcess": true,
                    "KubeProxyNFTablesLocalhostNodePorts": true,
                    "LoggingAlphaOptions": false,
                    "LoggingBetaOptions": true,
                    "MultiCIDRServiceAllocator": true,
                    "NFTablesProxyMode": true,
                    "NativeHistograms": false,
                    "PreferSameTrafficDistribution": true,
                    "WatchListClient": true,
                },
            ),
        }
    "#]]
    .assert_debug_eq(&effective);
    assert!(warnings.is_empty());
    assert_eq!((task, config_file), (Task::Run, None));
}
