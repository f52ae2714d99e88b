//! Requests over HTTP, and which pod served them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use kube_proxy_testkit::pod::Pod;
use kube_proxy_testkit::probe::Spread;

use kube_proxy_testkit::say;

/// How long a request may take; a lost packet that is sent again fits in.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Requests shown one by one.
const EXAMPLES: usize = 5;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The name of the pod that served it.
    Answered(String),
    /// Why it was not served.
    Failed(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(pod) => write!(f, "served by {pod}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Makes one request from a pod.
pub(super) fn ask(from: &Pod, address: SocketAddr, patience: Duration) -> Asked {
    let response = from.probe().timeout(patience).http_get(address, "/");
    let served = response.and_then(|response| {
        let pod = response.header("x-pod").context("the answer names no pod")?;
        anyhow::ensure!(response.status == 200, "status {} from {pod}", response.status);
        Ok(pod.to_owned())
    });
    served.map_or_else(|error| Asked::Failed(format!("{error:#}")), Asked::Answered)
}

/// Makes requests and shows who served them; all pods must have a fair share.
pub(super) fn show(
    client: &Pod,
    service: SocketAddr,
    web: &[Pod],
    count: usize,
) -> anyhow::Result<String> {
    let mut spread = Spread::default();
    for number in 1..=count {
        let asked = ask(client, service, PATIENCE);
        if number <= EXAMPLES {
            say!("   request {number}: {asked}");
        }
        let counter = match asked {
            Asked::Answered(pod) => spread.pods.entry(pod),
            Asked::Failed(why) => spread.failures.entry(why),
        };
        *counter.or_default() += 1;
    }
    say!("   ...");
    for (what, count) in spread.pods.iter().chain(&spread.failures) {
        say!("   {count:>4} x {what}");
    }
    let names: Vec<_> = web.iter().map(Pod::name).collect();
    spread.check_even(&names)?;
    let shares: Vec<_> = spread.pods.values().map(ToString::to_string).collect();
    Ok(format!("{count} requests, none failed, spread {} over two pods", shares.join(" : ")))
}
