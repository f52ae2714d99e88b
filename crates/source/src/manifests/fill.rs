//! What an API server does with objects before it stores them, as far as manifests need it.

use kube_proxy_core::{Kind, ObjectName};

use crate::normalise;
use crate::problem::{Findings, Problem, Subject};
use crate::slim::{self, Meta, Text};

/// What the API server adds to what people write, or would refuse.
pub(super) trait Fill<'a> {
    /// Sets what may be left out.
    fn fill(&mut self);

    /// What may not be left out, but is.
    fn missing(&self, name: &ObjectName) -> Vec<Problem>;
}

impl<'a> Fill<'a> for slim::Service<'a> {
    fn fill(&mut self) {
        default_namespace(&mut self.metadata);
    }

    fn missing(&self, name: &ObjectName) -> Vec<Problem> {
        let mut findings = Findings::new(Subject::object(Kind::Service, name.clone()));
        if normalise::lacks_cluster_ip(self) {
            let reason =
                "missing, and there is no API server to choose one; the Service is ignored";
            findings.add("spec.clusterIP", "", reason);
        }
        findings.into_problems()
    }
}

impl<'a> Fill<'a> for slim::EndpointSlice<'a> {
    fn fill(&mut self) {
        default_namespace(&mut self.metadata);
        for port in &mut self.ports.0 {
            // A port without a name would belong to no port of a Service; that of a Service with one port has the empty name.
            port.name.get_or_insert_default();
        }
    }

    fn missing(&self, name: &ObjectName) -> Vec<Problem> {
        let mut findings = Findings::new(Subject::object(Kind::EndpointSlice, name.clone()));
        if normalise::lacks_service_name(self) {
            let reason = "missing, so it belongs to no Service; the slice is ignored";
            findings.add("metadata.labels[kubernetes.io/service-name]", "", reason);
        }
        findings.into_problems()
    }
}

impl<'a> Fill<'a> for slim::Node<'a> {
    fn fill(&mut self) {
        no_namespace(&mut self.metadata);
    }

    fn missing(&self, _: &ObjectName) -> Vec<Problem> {
        Vec::new()
    }
}

impl<'a> Fill<'a> for slim::ServiceCidr<'a> {
    fn fill(&mut self) {
        no_namespace(&mut self.metadata);
    }

    fn missing(&self, _: &ObjectName) -> Vec<Problem> {
        Vec::new()
    }
}

fn default_namespace(meta: &mut Option<Meta<'_>>) {
    let namespace = &mut meta.get_or_insert_default().namespace;
    if namespace.as_ref().is_none_or(|namespace| namespace.is_empty()) {
        *namespace = Some(Text("default".into()));
    }
}

fn no_namespace(meta: &mut Option<Meta<'_>>) {
    meta.get_or_insert_default().namespace = None;
}
