//! kube-proxy: makes the Services of a Kubernetes cluster reachable from this node.

use std::process::ExitCode;

fn main() -> ExitCode {
    kube_proxy::app::main()
}
