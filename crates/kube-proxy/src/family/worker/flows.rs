//! What a family does about connections: their traffic, and flows that contradict the rules.

use std::time::Instant;

use kube_proxy_core::SyncError;
use kube_proxy_core::conntrack::DeadCheck;

use super::{Setup, Worker};
use crate::family::{tcp_flows, udp_flows};

impl Worker {
    /// Adds what the kernel counted of each service port to the metrics.
    pub(super) async fn read_traffic(&mut self) {
        let Setup { family, metrics, proxy, .. } = &mut self.setup;
        if !metrics.traffic().is_on() {
            return;
        }
        let read = async { Ok::<_, SyncError>((proxy.traffic().await?, proxy.refused().await?)) };
        match read.await {
            Ok((traffic, refused)) => {
                if let Some(traffic) = traffic {
                    metrics.traffic().update(*family, traffic);
                }
                if let Some(refused) = refused {
                    metrics.traffic().update_refused(*family, refused);
                }
            }
            Err(error) => tracing::warn!(%family, "cannot read the traffic of services: {error}"),
        }
    }

    /// Deletes the flows that the new rules made wrong; at once, unless a moment ago some were looked for.
    pub(super) fn check_flows(&mut self) {
        if self.flow_pace.may_begin(Instant::now()) {
            self.check_flows_now();
        }
    }

    /// Does what was put off, if it is time.
    pub(super) fn check_flows_put_off(&mut self, now: Instant) {
        if self.flow_pace.due().is_some_and(|due| due <= now) {
            self.check_flows();
        }
    }

    /// Does what was put off, at the end.
    pub(super) fn check_flows_left(&mut self) {
        if self.flow_pace.due().is_some() {
            self.check_flows_now();
        }
    }

    fn check_flows_now(&mut self) {
        let begin = Instant::now();
        self.check_udp_flows();
        self.check_early_flows();
        self.flow_pace.ended(begin, Instant::now());
    }

    /// Deletes the UDP flows that the new rules made wrong. A failure is retried with the next check of the rules.
    fn check_udp_flows(&mut self) {
        let Some(mut check) = self.setup.proxy.take_udp_check() else { return };
        if self.setup.mode.owns_udp_flows {
            check.retain_unowned();
            if check.is_empty() {
                return;
            }
        }
        let family = self.setup.family;
        let begin = Instant::now();
        match udp_flows::delete_stale(family, &check, &self.setup.node_ports) {
            Ok(checked) => {
                self.setup.metrics.conntrack.checked(family, begin.elapsed(), checked.deleted);
                if checked.deleted > 0 {
                    tracing::info!(%family, deleted = checked.deleted, "deleted stale UDP flows");
                }
                if !checked.complete {
                    self.setup.proxy.return_udp_check(&check);
                }
            }
            Err(error) => {
                tracing::warn!(%family, "cannot delete stale UDP flows, will try again: {error}");
                self.setup.proxy.return_udp_check(&check);
            }
        }
    }

    /// Deletes TCP connections that began before the rules of their frontends were there: the client's next packet finds an endpoint.
    fn check_early_flows(&mut self) {
        let Some(check) = self.setup.proxy.take_early_check() else { return };
        let Setup { family, metrics, proxy, node_ports, .. } = &mut self.setup;
        let family = *family;
        let complete = match tcp_flows::delete_early(family, &check, proxy.tracker(), node_ports) {
            Ok(checked) => {
                metrics.conntrack.began_early(family, checked.deleted);
                if checked.deleted > 0 {
                    let deleted = checked.deleted;
                    tracing::info!(%family, deleted, "deleted entries of TCP connections that began before the rules");
                }
                checked.complete
            }
            Err(error) => {
                tracing::warn!(%family, "cannot look for TCP connections that began before the rules, will try again: {error}");
                false
            }
        };
        if !complete {
            proxy.return_early_check(check);
        }
    }

    /// Ends connections to endpoints that left, of Services that want that.
    pub(super) fn check_dead_flows(&mut self) {
        let now = Instant::now();
        self.knocks.send(now);
        if self.setup.proxy.dead_check_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(check) = self.setup.proxy.take_dead_check(now) else { return };
        if self.setup.mode.connections_in_conntrack {
            self.end_dead_flows(check, now);
        }
    }

    fn end_dead_flows(&mut self, check: DeadCheck, now: Instant) {
        let Setup { family, metrics, proxy, node_ports, .. } = &mut self.setup;
        let family = *family;
        let node_ip = proxy.snapshot().node_ip;
        match tcp_flows::end_dead(family, &check, node_ip, node_ports) {
            Ok(ended) => {
                let tcp_flows::Ended { reset, forgotten, clients, closed, complete } = ended;
                metrics.conntrack.ended_dead(family, reset);
                if reset + forgotten > 0 {
                    tracing::info!(%family, reset, forgotten, "ended connections to endpoints that left");
                }
                if !complete {
                    proxy.return_dead_check(check, now);
                }
                if let Some(closed) = closed.filter(|_| !clients.is_empty())
                    && let Err(error) = self.knocks.begin(closed, clients, now)
                {
                    tracing::warn!(%family, "clients of endpoints that left are reset only when they send: {error}");
                }
            }
            Err(error) => {
                tracing::warn!(%family, "cannot end connections to endpoints that left, will try again: {error}");
                proxy.return_dead_check(check, now);
            }
        }
    }
}
