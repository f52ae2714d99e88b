//! Kubernetes objects for the tests, as JSON like an API server has them.

use std::net::IpAddr;

use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use serde_json::{Value, json};

/// Namespace of all objects.
pub(crate) const NAMESPACE: &str = "default";

/// A dual-stack Service of type LoadBalancer or less, with one TCP port 80 named `p`, to be changed through [`Svc::with`].
#[derive(Clone, Debug)]
pub(crate) struct Svc {
    pub(crate) name: String,
    /// Its number: decides about its addresses and node port.
    pub(crate) number: u8,
    value: Value,
}

impl Svc {
    /// A Service of type ClusterIP.
    pub(crate) fn new(name: &str, number: u8) -> Self {
        let ips: Vec<String> =
            IpFamily::BOTH.iter().map(|f| cluster_ip(number, *f).to_string()).collect();
        let value = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": ips[0],
                "clusterIPs": ips,
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [{ "name": "p", "protocol": "TCP", "port": 80, "targetPort": "p" }],
            },
        });
        Self { name: name.to_owned(), number, value }
    }

    /// Sets the field at a JSON pointer below the object, such as `/spec/type`, creating what is missing on the way.
    pub(crate) fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.value;
        for key in pointer.split('/').skip(1) {
            at = match key.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[key],
            };
        }
        *at = value.into();
        self
    }

    /// Only UDP.
    pub(crate) fn udp(self) -> Self {
        self.with("/spec/ports/0/protocol", "UDP")
    }

    /// Also a node port.
    pub(crate) fn node_port(self) -> Self {
        let port = node_port(self.number);
        self.with("/spec/type", "NodePort").with("/spec/ports/0/nodePort", port)
    }

    /// Also external IPs.
    pub(crate) fn external_ips(self) -> Self {
        let ips = IpFamily::BOTH.map(|f| external_ip(self.number, f).to_string());
        self.with("/spec/externalIPs", ips.to_vec())
    }

    /// Also load-balancer VIPs, and a node port.
    pub(crate) fn load_balancer(self) -> Self {
        let ingress: Vec<Value> = IpFamily::BOTH
            .iter()
            .map(|f| json!({ "ip": vip(self.number, *f).to_string(), "ipMode": "VIP" }))
            .collect();
        self.node_port()
            .with("/spec/type", "LoadBalancer")
            .with("/status/loadBalancer/ingress", ingress)
    }

    pub(crate) fn internal_local(self) -> Self {
        self.with("/spec/internalTrafficPolicy", "Local")
    }

    pub(crate) fn external_local(self) -> Self {
        self.with("/spec/externalTrafficPolicy", "Local")
    }

    pub(crate) fn affinity(self, seconds: u32) -> Self {
        self.with("/spec/sessionAffinity", "ClientIP")
            .with("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", seconds)
    }

    /// The object.
    pub(crate) fn object(&self) -> Value {
        self.value.clone()
    }

    /// Slices of both families with these endpoints on this target port, of the protocol of the Service.
    pub(crate) fn slices(&self, target: u16, endpoints: &[Ep]) -> Vec<Value> {
        IpFamily::BOTH.iter().map(|f| self.slice(*f, "", target, endpoints)).collect()
    }

    /// A slice of one family; `suffix` distinguishes several of one Service.
    pub(crate) fn slice(
        &self,
        family: IpFamily,
        suffix: &str,
        target: u16,
        endpoints: &[Ep],
    ) -> Value {
        let family_name = family.to_string();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}{suffix}", self.name, family_name.to_lowercase()),
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": self.name },
            },
            "addressType": family_name,
            "ports": [{
                "name": self.value["spec"]["ports"][0]["name"],
                "protocol": self.value["spec"]["ports"][0]["protocol"],
                "port": target,
            }],
            "endpoints": endpoints.iter().map(|e| e.object(family)).collect::<Vec<_>>(),
        })
    }
}

/// One endpoint of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Ep {
    ips: [IpAddr; 2],
    node: String,
    ready: bool,
    serving: bool,
    terminating: bool,
    zones: Vec<&'static str>,
}

impl Ep {
    pub(crate) fn new(ips: [IpAddr; 2], node: &str) -> Self {
        let zones = Vec::new();
        Self { ips, node: node.to_owned(), ready: true, serving: true, terminating: false, zones }
    }

    /// Not ready and not serving.
    pub(crate) fn unready(self) -> Self {
        Self { ready: false, serving: false, ..self }
    }

    /// Terminating but still serving.
    pub(crate) fn terminating(self) -> Self {
        Self { ready: false, terminating: true, ..self }
    }

    /// With a zone hint.
    pub(crate) fn zone(mut self, zone: &'static str) -> Self {
        self.zones.push(zone);
        self
    }

    fn object(&self, family: IpFamily) -> Value {
        let ip = if family == IpFamily::V4 { self.ips[0] } else { self.ips[1] };
        let mut object = json!({
            "addresses": [ip.to_string()],
            "conditions": {
                "ready": self.ready,
                "serving": self.serving,
                "terminating": self.terminating,
            },
            "nodeName": self.node,
        });
        if !self.zones.is_empty() {
            let zones: Vec<Value> = self.zones.iter().map(|z| json!({ "name": z })).collect();
            object["hints"] = json!({ "forZones": zones });
        }
        object
    }
}

/// A Node object.
pub(crate) fn node(name: &str, index: u8, zone: &str) -> Value {
    let ips = plan::node(index);
    let cidrs = plan::pod_net(index);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
        "spec": {
            "podCIDR": cidrs.v4.to_string(),
            "podCIDRs": [cidrs.v4.to_string(), cidrs.v6.to_string()],
        },
        "status": { "addresses": [
            { "type": "InternalIP", "address": ips.v4.to_string() },
            { "type": "InternalIP", "address": ips.v6.to_string() },
            { "type": "Hostname", "address": name },
        ]},
    })
}

pub(crate) fn cluster_ip(number: u8, family: IpFamily) -> IpAddr {
    nth(*plan::service_net().get(family), number)
}

pub(crate) fn external_ip(number: u8, family: IpFamily) -> IpAddr {
    nth(*plan::external_net().get(family), number)
}

pub(crate) fn vip(number: u8, family: IpFamily) -> IpAddr {
    nth(*plan::load_balancer_net().get(family), number)
}

/// The node port of a Service.
pub(crate) fn node_port(number: u8) -> u16 {
    30_000 + u16::from(number)
}

fn nth(net: ipnet::IpNet, number: u8) -> IpAddr {
    match net.network() {
        IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + u32::from(number)).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + u128::from(number)).to_be_bytes()),
    }
}
