//! Traffic that continues while something happens, and ways to look at what becomes of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::{Patience, eventually};
use kube_proxy_testkit::probe::{Outcome, Probe};
use kube_proxy_testkit::prober::{Prober, Report};

use crate::world::{From, GUARD, World, cluster_address};

/// Time between two connections of one prober.
const PERIOD: Duration = Duration::from_millis(5);
/// Connections of each prober that have to end before "it went on" is believed.
const ENOUGH: usize = 30;
/// How long something is waited for that is not to come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// Probers in the background, none of whose connections may fail.
pub(crate) struct Traffic(Vec<(String, Prober)>);

impl Traffic {
    /// Starts a prober for each pair.
    pub(crate) fn start(flows: &[(Probe<'_>, SocketAddr)]) -> anyhow::Result<Self> {
        let mut probers = Vec::new();
        for (probe, to) in flows {
            let prober = Prober::start(&probe.timeout(Duration::from_secs(10)), *to, PERIOD)?;
            probers.push((to.to_string(), prober));
        }
        let traffic = Self(probers);
        traffic.go_on();
        Ok(traffic)
    }

    /// From a pod to the cluster IP of a Service and from outside to its node port, in both families.
    pub(crate) fn to_service(world: &World, number: u8) -> anyhow::Result<Self> {
        let mut flows = Vec::new();
        for family in IpFamily::BOTH {
            let (pod, outside) = (world.probe(From::Pod("client")), world.probe(From::Outside));
            flows.push((pod, cluster_address(number, family)));
            flows.push((outside, world.node_port(number, family)));
        }
        Self::start(&flows)
    }

    /// Waits until a good number of further connections have ended.
    pub(crate) fn go_on(&self) {
        let marks: Vec<usize> = self.0.iter().map(|(_, prober)| prober.ended() + ENOUGH).collect();
        for ((to, prober), mark) in self.0.iter().zip(marks) {
            eventually(GUARD, || {
                let ended = prober.ended();
                if ended >= mark { Ok(()) } else { Err(format!("{to}: only {ended} of {mark}")) }
            });
        }
    }

    /// Ends it, and fails if any connection did.
    pub(crate) fn stop(self) -> anyhow::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for (to, report) in self.end() {
            report.check_no_failure().with_context(|| format!("connections to {to}"))?;
            reports.push(report);
        }
        Ok(reports)
    }

    /// Ends it, and reports what became of the connections to each address.
    pub(crate) fn end(self) -> Vec<(String, Report)> {
        self.go_on();
        self.0.into_iter().map(|(to, prober)| (to, prober.stop())).collect()
    }
}

/// Waits until exactly this pod answers, several times in a row.
pub(crate) fn becomes(probe: Probe<'_>, to: SocketAddr, pod: &str) {
    let mut patience = Patience::default();
    eventually(GUARD, || {
        let probe = probe.timeout(patience.grow());
        for _ in 0..5 {
            let answer = probe.tcp(to).answer()?;
            ensure!(answer.pod == pod, "{to}: {} answers, not {pod}", answer.pod);
        }
        Ok(())
    });
}

/// Waits until something answers.
pub(crate) fn works(probe: Probe<'_>, to: SocketAddr) {
    let mut patience = Patience::default();
    eventually(GUARD, || {
        probe.timeout(patience.grow()).tcp(to).answer().with_context(|| to.to_string())
    });
}

/// Waits until a connection ends like this, several times in a row.
pub(crate) fn ends(probe: Probe<'_>, to: SocketAddr, fits: impl Fn(&Outcome) -> bool) {
    eventually(GUARD, || {
        for _ in 0..3 {
            let outcome = probe.timeout(SILENCE).tcp(to);
            ensure!(fits(&outcome), "{to}: {outcome}");
        }
        Ok(())
    });
}
