//! What a health-check node port answers.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::{HeaderName, HeaderValue};
use kube_proxy_core::ObjectName;

use super::HealthPorts;
use crate::serve::health::Health;
use crate::serve::http::{Answer, Asked, Handler, Reply};

/// Load balancers spread connections by this header: the number of ready endpoints on the node.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Answers for one Service, whatever the path.
pub(super) struct ServiceAnswer {
    pub(super) service: ObjectName,
    pub(super) ports: Arc<HealthPorts>,
    pub(super) health: Arc<Health>,
}

impl Handler for ServiceAnswer {
    fn answer(&self, _asked: &Asked) -> Reply {
        // A request that comes in while the port goes away finds nothing here: no endpoints, no traffic.
        let local = self.ports.get(&self.service).map_or(0, |health| health.local_endpoints);
        answer(&self.service, local, self.health.keeps_up(Instant::now())).into()
    }
}

/// The answer; laid out over several lines with tabs, as the Go version does and some scripts expect.
pub(super) fn answer(service: &ObjectName, local: usize, keeps_up: bool) -> Answer {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {keeps_up}\n}}",
        text(&service.namespace),
        text(&service.name),
    );
    let mut answer = Answer::health(keeps_up && local > 0, body);
    answer.headers.push((WEIGHT, HeaderValue::from(local)));
    answer
}
