//! Generators of Services and EndpointSlices for scale tests.
//!
//! The objects are as large as those of a real cluster: labels, annotations, owners and managed fields are there.
//! The same [`Scale`] gives the same objects each time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

mod metadata;
#[cfg(test)]
mod tests;

/// Endpoints in one slice; what the EndpointSlice controller does by default.
pub const ENDPOINTS_PER_SLICE: usize = 100;
/// The first of the node ports given out, that of a default cluster.
const FIRST_NODE_PORT: usize = 30_000;
/// The number of node ports of a default cluster.
const NODE_PORTS: usize = 2768;
/// Addresses at the start of the service network that clusters give to their own Services.
const RESERVED_CLUSTER_IPS: u32 = 256;

/// Address families of the Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    #[default]
    V4,
    /// IPv6 only.
    V6,
    /// IPv4 first, then IPv6; each endpoint has an address of both.
    Dual,
}

/// The ports of each Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// `http`, TCP 80 to 8080.
    #[default]
    Tcp,
    /// `dns`, UDP 53 to 5353.
    Udp,
    /// Both of them.
    Both,
}

/// How many objects there are, and of what sort.
#[derive(Clone, Debug)]
pub struct Scale {
    /// The number of Services.
    pub services: usize,
    /// Endpoints of each Service.
    pub endpoints: usize,
    /// Namespaces over which the Services are spread.
    pub namespaces: usize,
    /// Nodes over which the endpoints are spread.
    pub nodes: usize,
    /// Address families.
    pub families: Families,
    /// Ports of each Service.
    pub ports: Ports,
    /// Whether the Services are of type NodePort; there are 2768 node ports, and later Services stay `ClusterIP`.
    pub node_ports: bool,
    /// Whether node ports lead to the endpoints of their node alone (`externalTrafficPolicy: Local`).
    pub local: bool,
    /// Further annotations of each Service.
    pub annotations: Vec<(String, String)>,
    /// Cluster IPs are of this network, from its 256th address on.
    pub service_v4: Ipv4Net,
    /// IPv6 cluster IPs are of this network.
    pub service_v6: Ipv6Net,
    /// Endpoint addresses are of this network.
    pub pod_v4: Ipv4Net,
    /// IPv6 endpoint addresses are of this network.
    pub pod_v6: Ipv6Net,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            services: 1,
            endpoints: 1,
            namespaces: 10,
            nodes: 100,
            families: Families::V4,
            ports: Ports::Tcp,
            node_ports: false,
            local: false,
            annotations: Vec::new(),
            service_v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12),
            service_v6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0), 108),
            pod_v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9),
            pod_v6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x128, 0, 0, 0, 0, 0, 0), 64),
        }
    }
}

/// One port of a Service.
struct Port {
    name: &'static str,
    protocol: &'static str,
    number: u16,
    target: u16,
}

impl Scale {
    /// This many Services with this many endpoints each; everything else as by default.
    pub fn new(services: usize, endpoints: usize) -> Self {
        Self { services, endpoints, ..Self::default() }
    }

    /// All objects, each Service followed by its slices. They are made one by one.
    pub fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        (0..self.services)
            .flat_map(|service| std::iter::once(self.service(service)).chain(self.slices(service)))
    }

    /// The namespace of a Service.
    pub fn namespace(&self, service: usize) -> String {
        format!("team-{:03}", service % self.namespaces.max(1))
    }

    /// The name of a Service.
    pub fn name(service: usize) -> String {
        format!("svc-{service:05}")
    }

    /// The cluster IPs of a Service, the primary one first.
    ///
    /// # Panics
    /// When the service network is too small for that many Services.
    pub fn cluster_ips(&self, service: usize) -> Vec<IpAddr> {
        let offset =
            u32::try_from(service).map_or(u32::MAX, |n| n.saturating_add(RESERVED_CLUSTER_IPS));
        self.addresses(self.service_v4, self.service_v6, offset)
    }

    /// The addresses of one endpoint, the primary family first.
    ///
    /// # Panics
    /// When the pod network is too small for that many endpoints.
    pub fn endpoint_ips(&self, service: usize, endpoint: usize) -> Vec<IpAddr> {
        let number = service * self.endpoints + endpoint + 1;
        self.addresses(self.pod_v4, self.pod_v6, u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The node port of a port of a Service, if it has one.
    pub fn node_port(&self, service: usize, port: usize) -> Option<u16> {
        let number = service * self.port_list().len() + port;
        let free = self.node_ports && number < NODE_PORTS;
        free.then(|| u16::try_from(FIRST_NODE_PORT + number).ok()).flatten()
    }

    /// A Service.
    pub fn service(&self, service: usize) -> Value {
        let cluster_ips = self.cluster_ips(service);
        let families: Vec<&str> = cluster_ips.iter().map(family_name).collect();
        let node_ports = self.node_port(service, 0).is_some();
        let ports: Vec<Value> = self
            .port_list()
            .iter()
            .enumerate()
            .map(|(index, port)| {
                let mut value = json!({
                    "name": port.name,
                    "port": port.number,
                    "protocol": port.protocol,
                    "targetPort": port.name,
                });
                if let Some(node_port) = self.node_port(service, index) {
                    value["nodePort"] = node_port.into();
                }
                value
            })
            .collect();
        let mut spec = json!({
            "clusterIP": cluster_ips[0],
            "clusterIPs": cluster_ips,
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": families,
            "ipFamilyPolicy": if families.len() == 2 { "RequireDualStack" } else { "SingleStack" },
            "ports": ports,
            "selector": {"app.kubernetes.io/name": Self::name(service)},
            "sessionAffinity": "None",
            "type": if node_ports { "NodePort" } else { "ClusterIP" },
        });
        if node_ports {
            spec["externalTrafficPolicy"] = if self.local { "Local" } else { "Cluster" }.into();
        }
        let mut metadata =
            metadata::of_service(&self.namespace(service), &Self::name(service), service);
        for (key, value) in &self.annotations {
            metadata["annotations"][key] = value.as_str().into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": spec,
            "status": {"loadBalancer": {}},
        })
    }

    /// The EndpointSlices of a Service: for each family as many as its endpoints need.
    pub fn slices(&self, service: usize) -> Vec<Value> {
        let families = self.cluster_ips(service).len();
        let per_family = self.endpoints.div_ceil(ENDPOINTS_PER_SLICE);
        (0..families)
            .flat_map(|family| (0..per_family).map(move |index| self.slice(service, family, index)))
            .collect()
    }

    /// One EndpointSlice; `family` is the position among the cluster IPs.
    fn slice(&self, service: usize, family: usize, index: usize) -> Value {
        let first = index * ENDPOINTS_PER_SLICE;
        let last = self.endpoints.min(first + ENDPOINTS_PER_SLICE);
        let endpoints: Vec<Value> =
            (first..last).map(|endpoint| self.endpoint(service, endpoint, family)).collect();
        let ports: Vec<Value> = self
            .port_list()
            .iter()
            .map(|p| json!({"name": p.name, "port": p.target, "protocol": p.protocol}))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata::of_slice(
                &self.namespace(service),
                &Self::name(service),
                service,
                family * 1000 + index,
            ),
            "addressType": family_name(&self.cluster_ips(service)[family]),
            "endpoints": endpoints,
            "ports": ports,
        })
    }

    fn endpoint(&self, service: usize, endpoint: usize, family: usize) -> Value {
        let number = service * self.endpoints + endpoint;
        let node = number % self.nodes.max(1);
        let pod = format!("{}-{}", Self::name(service), metadata::suffix(number));
        json!({
            "addresses": [self.endpoint_ips(service, endpoint)[family]],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{node:04}"),
            "targetRef": {
                "kind": "Pod",
                "name": pod,
                "namespace": self.namespace(service),
                "uid": metadata::uid(3, number),
            },
            "zone": format!("zone-{}", ["a", "b", "c"][node % 3]),
        })
    }

    fn port_list(&self) -> Vec<Port> {
        let http = Port { name: "http", protocol: "TCP", number: 80, target: 8080 };
        let dns = Port { name: "dns", protocol: "UDP", number: 53, target: 5353 };
        match self.ports {
            Ports::Tcp => vec![http],
            Ports::Udp => vec![dns],
            Ports::Both => vec![http, dns],
        }
    }

    fn addresses(&self, v4: Ipv4Net, v6: Ipv6Net, offset: u32) -> Vec<IpAddr> {
        let four = || {
            let address = Ipv4Addr::from(u32::from(v4.network()).saturating_add(offset));
            assert!(v4.contains(&address), "{v4} has no address number {offset}");
            IpAddr::V4(address)
        };
        let six = || {
            let address = Ipv6Addr::from(u128::from(v6.network()).saturating_add(offset.into()));
            assert!(v6.contains(&address), "{v6} has no address number {offset}");
            IpAddr::V6(address)
        };
        match self.families {
            Families::V4 => vec![four()],
            Families::V6 => vec![six()],
            Families::Dual => vec![four(), six()],
        }
    }
}

fn family_name(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
