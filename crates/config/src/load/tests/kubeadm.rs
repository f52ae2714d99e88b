//! The configuration that kubeadm puts into the ConfigMap `kube-proxy`: every field is there, most of them unset.

use std::path::PathBuf;

use expect_test::expect;

use crate::testing::Given;
use crate::{Mode, Source};

const CONFIG: &str = r#"
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

#[test]
fn loads_without_a_warning_and_with_all_defaults() {
    let flags = "--hostname-override=worker-1";
    let given = Given { flags, file: Some(CONFIG), ..Given::default() };
    let loaded = given.loaded();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.effective.mode, Mode::Iptables);

    let small = "clusterCIDR: 10.244.0.0/16\n\
                 clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}\n";
    let small = Given { flags, file: Some(small), ..Given::default() }.loaded();
    assert_eq!(loaded.effective, small.effective);
    let Source::Kubernetes(source) = loaded.effective.source else { panic!("a cluster is asked") };
    assert_eq!(source.kubeconfig, Some(PathBuf::from("/var/lib/kube-proxy/kubeconfig.conf")));
    expect!["5.0 10"].assert_eq(&format!("{:?} {}", source.qps, source.burst));
}
