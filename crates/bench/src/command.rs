//! The command line of a kube-proxy that is measured.

use std::path::Path;
use std::process::Command;

use kube_proxy_testkit::cluster::plan;

/// Flags that the Go kube-proxy has had for long: the mode by its name, the way to the API server, and the node by its name.
pub(crate) fn of_program(program: &Path, mode: &str, kubeconfig: &Path, node: &str) -> Command {
    let net = plan::cluster_net();
    let mut command = Command::new(program);
    command
        .arg(format!("--proxy-mode={mode}"))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--hostname-override={node}"))
        .arg(format!("--cluster-cidr={},{}", net.v4, net.v6))
        // Limits of the whole host, which a namespace cannot change.
        .arg("--conntrack-max-per-core=0");
    command
}
