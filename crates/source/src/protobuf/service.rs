//! Services.

use super::fault::Fault;
use super::wire::Value;
use super::{Message, message, number, push_message, push_text, text};
use crate::slim::{
    ClientIpConfig, Ingress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};

impl<'a> Message<'a> for Service<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.metadata, "metadata", value),
            2 => message(&mut self.spec, "spec", value),
            3 => message(&mut self.status, "status", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for ServiceSpec<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => push_message(&mut self.ports, "ports", value),
            3 => text(&mut self.cluster_ip, "clusterIP", value),
            4 => text(&mut self.type_, "type", value),
            5 => push_text(&mut self.external_ips, "externalIPs", value),
            7 => text(&mut self.session_affinity, "sessionAffinity", value),
            9 => {
                push_text(&mut self.load_balancer_source_ranges, "loadBalancerSourceRanges", value)
            }
            11 => text(&mut self.external_traffic_policy, "externalTrafficPolicy", value),
            12 => number(&mut self.health_check_node_port, "healthCheckNodePort", value),
            14 => message(&mut self.session_affinity_config, "sessionAffinityConfig", value),
            18 => push_text(&mut self.cluster_ips, "clusterIPs", value),
            19 => push_text(&mut self.ip_families, "ipFamilies", value),
            22 => text(&mut self.internal_traffic_policy, "internalTrafficPolicy", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for SessionAffinityConfig {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.client_ip, "clientIP", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for ClientIpConfig {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => number(&mut self.timeout_seconds, "timeoutSeconds", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for ServicePort<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.name, "name", value),
            2 => text(&mut self.protocol, "protocol", value),
            3 => number(&mut self.port, "port", value),
            5 => number(&mut self.node_port, "nodePort", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for ServiceStatus<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.load_balancer, "loadBalancer", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for LoadBalancerStatus<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => push_message(&mut self.ingress, "ingress", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for Ingress<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.ip, "ip", value),
            3 => text(&mut self.ip_mode, "ipMode", value),
            _ => Ok(()),
        }
    }
}
