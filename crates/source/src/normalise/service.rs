//! Services.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube_proxy_core::{
    IpFamily, Kind, PerFamily, Port, Service, ServicePolicy, TrafficPolicy, Trust,
};

use super::{address, begin, port_number, protocol, text};
use crate::context::Context;
use crate::problem::{Findings, Problem};
use crate::slim::{self, Annotations, Int, ServiceSpec, Text};

/// The timeout of client-IP affinity when none is given, in seconds (API default).
const DEFAULT_AFFINITY: u32 = 10_800;
/// The longest timeout that the API server accepts, in seconds: a day.
const MAX_AFFINITY: u32 = 86_400;

/// Whether a Service would need a cluster IP and has none: the API server would give it one, a manifest must name it.
pub fn lacks_cluster_ip(service: &slim::Service<'_>) -> bool {
    let Some(spec) = &service.spec else {
        return true;
    };
    !is_external_name(spec)
        && text(spec.cluster_ip.as_ref()).is_empty()
        && spec.cluster_ips.iter().all(|ip| ip.is_empty())
}

/// Normalises a Service.
pub fn service(service: &slim::Service<'_>, context: &Context) -> (Option<Service>, Vec<Problem>) {
    let (name, mut findings) = match begin(Kind::Service, service.metadata.as_ref(), context) {
        Ok(begun) => begun,
        Err(findings) => return (None, findings.into_problems()),
    };
    let Some(spec) = service.spec.as_ref().filter(|_| is_proxied(service)) else {
        return (None, Vec::new());
    };
    let cluster_ips = cluster_ips(spec, &mut findings);
    if cluster_ips.v4.is_none() && cluster_ips.v6.is_none() {
        return (None, findings.into_problems());
    }
    let external_ips = external_ips(spec, context.trust(), &mut findings);
    let external_traffic_policy = external_policy(spec, &mut findings);
    let load_balancer_source_ranges = source_ranges(spec, &cluster_ips, &mut findings);
    let normalised = Service {
        name,
        cluster_ips,
        external_ips,
        load_balancer_vips: load_balancer_vips(service, &mut findings),
        policy: ServicePolicy {
            load_balancer_source_ranges,
            internal_traffic_policy: policy(
                spec.internal_traffic_policy.as_ref(),
                "spec.internalTrafficPolicy",
                &mut findings,
            ),
            external_traffic_policy,
            no_local_endpoints: annotation(
                service,
                |annotations| annotations.no_local_endpoints.as_ref(),
                Annotations::NO_LOCAL_ENDPOINTS,
                &mut findings,
            ),
            zone_spill: annotation(
                service,
                |annotations| annotations.zone_spill_below.as_ref(),
                Annotations::ZONE_SPILL_BELOW,
                &mut findings,
            ),
            reset_dead_connections: annotation(
                service,
                |annotations| annotations.reset_dead_connections.as_ref(),
                Annotations::RESET_DEAD_CONNECTIONS,
                &mut findings,
            )
            .is_some_and(|Switch(on)| on),
            algorithm: annotation(
                service,
                |annotations| annotations.lb_algorithm.as_ref(),
                Annotations::LB_ALGORITHM,
                &mut findings,
            ),
            session_affinity: affinity(spec, &mut findings),
            health_check_node_port: health_check(spec, external_traffic_policy, &mut findings),
            annotations: annotations(service, context, &mut findings),
        },
        ports: ports(spec, context, &mut findings),
    };
    (Some(normalised), findings.into_problems())
}

/// The annotations that backends read by name. Few different values exist, so the texts are shared.
fn annotations(
    service: &slim::Service<'_>,
    context: &Context,
    findings: &mut Findings,
) -> BTreeMap<Arc<str>, Arc<str>> {
    let Some(annotations) = service.metadata.as_ref().and_then(|meta| meta.annotations.as_ref())
    else {
        return BTreeMap::new();
    };
    let scheduler = text(annotations.ipvs_scheduler.as_ref()).trim();
    let read = [
        (Annotations::IPVS_SCHEDULER, Some(scheduler)),
        (
            Annotations::PROXY_PROTOCOL,
            proxy_protocol(text(annotations.proxy_protocol.as_ref()), findings),
        ),
        (Annotations::FAST_PATH, fast_path(text(annotations.fast_path.as_ref()), findings)),
    ];
    let given = read.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let given = given.filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| (context.name(name), context.name(value))).collect()
}

fn is_external_name(spec: &ServiceSpec<'_>) -> bool {
    text(spec.type_.as_ref()) == "ExternalName"
}

/// Whether this proxy is to look after a Service: semantics §2.1, the selectors of the watch included.
fn is_proxied(service: &slim::Service<'_>) -> bool {
    let labels = service.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let other_proxy = labels.is_some_and(|l| l.service_proxy_name.is_some());
    let Some(spec) = &service.spec else {
        return false;
    };
    let headless = text(spec.cluster_ip.as_ref()) == "None"
        || spec.cluster_ips.first().is_some_and(|ip| &**ip == "None");
    !other_proxy && !headless && !is_external_name(spec) && !lacks_cluster_ip(service)
}

/// The cluster IP of each family.
///
/// `spec.ipFamilies` says which of `spec.clusterIPs` is whose; where it is missing, as in old objects and in manifests, the addresses do.
fn cluster_ips(spec: &ServiceSpec<'_>, findings: &mut Findings) -> PerFamily<Option<IpAddr>> {
    let mut found = PerFamily::<Option<IpAddr>>::default();
    let single = spec.cluster_ip.as_ref().filter(|ip| !ip.is_empty());
    let written: Vec<(String, &str)> = if spec.cluster_ips.is_empty() {
        let field = || "spec.clusterIP".to_owned();
        single.map(|ip| (field(), &**ip)).into_iter().collect()
    } else {
        let all = spec.cluster_ips.iter().enumerate();
        all.map(|(i, ip)| (format!("spec.clusterIPs[{i}]"), &**ip)).collect()
    };
    for (index, (field, ip)) in written.iter().enumerate() {
        let Some(address) = address::ip(ip) else {
            findings.add(field, ip, "not an IP address; ignored");
            continue;
        };
        let family = IpFamily::of(&address);
        let declared = spec.ip_families.get(index).map(|family| &**family);
        if declared.is_some_and(|declared| declared != family.to_string()) {
            let reason = format!("not of the family that spec.ipFamilies[{index}] names; ignored");
            findings.add(field, ip, reason);
            continue;
        }
        if let Some(reason) = Trust::assigned(&address) {
            findings.add(field, ip, reason);
            continue;
        }
        found.get_mut(family).get_or_insert(address);
    }
    found
}

fn external_ips(spec: &ServiceSpec<'_>, trust: &Trust, findings: &mut Findings) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (i, ip) in spec.external_ips.iter().enumerate() {
        if ip.trim().is_empty() {
            continue;
        }
        let field = format_args!("spec.externalIPs[{i}]");
        match address::ip(ip).map(|address| (address, trust.external_ip(&address))) {
            Some((address, None)) => found.push(address),
            Some((_, Some(reason))) => findings.add(field, ip, reason),
            None => findings.add(field, ip, "not an IP address; ignored"),
        }
    }
    found
}

fn load_balancer_vips(service: &slim::Service<'_>, findings: &mut Findings) -> Vec<IpAddr> {
    let status = service.status.as_ref();
    let Some(balancer) = status.and_then(|s| s.load_balancer.as_ref()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (i, ingress) in balancer.ingress.iter().enumerate() {
        let ip = text(ingress.ip.as_ref());
        if ip.is_empty() {
            continue;
        }
        let field = |name: &str| format!("status.loadBalancer.ingress[{i}].{name}");
        match text(ingress.ip_mode.as_ref()) {
            "" | "VIP" => {}
            "Proxy" => continue,
            other => {
                findings.add(field("ipMode"), other, "not VIP or Proxy; the address is ignored");
                continue;
            }
        }
        match address::ip(ip).map(|address| (address, Trust::assigned(&address))) {
            Some((address, None)) => found.push(address),
            Some((_, Some(reason))) => findings.add(field("ip"), ip, reason),
            None => findings.add(field("ip"), ip, "not an IP address; ignored"),
        }
    }
    found
}

/// The source ranges. When one of them is not valid, a family that has no valid one lets no client in.
///
/// It may have been meant for that family, and a family without any range would let in everybody.
fn source_ranges(
    spec: &ServiceSpec<'_>,
    cluster_ips: &PerFamily<Option<IpAddr>>,
    findings: &mut Findings,
) -> Vec<IpNet> {
    let mut found = Vec::new();
    let mut invalid = false;
    for (i, range) in spec.load_balancer_source_ranges.iter().enumerate() {
        if range.trim().is_empty() {
            continue;
        }
        let Some(net) = address::net(range) else {
            invalid = true;
            let field = format_args!("spec.loadBalancerSourceRanges[{i}]");
            findings.add(field, range, "not a network like 10.0.0.0/8; ignored");
            continue;
        };
        found.push(net);
    }
    if invalid {
        let nobody: [IpNet; 2] = [
            Ipv4Net::from(Ipv4Addr::UNSPECIFIED).into(),
            Ipv6Net::from(Ipv6Addr::UNSPECIFIED).into(),
        ];
        for net in nobody {
            close_if_unranged(net, cluster_ips, &mut found, findings);
        }
    }
    found
}

/// Adds the range that holds no client if there is none of its family; reported if the Service has that family.
fn close_if_unranged(
    nobody: IpNet,
    cluster_ips: &PerFamily<Option<IpAddr>>,
    found: &mut Vec<IpNet>,
    findings: &mut Findings,
) {
    let family = IpFamily::of_net(&nobody);
    if found.iter().any(|net| IpFamily::of_net(net) == family) {
        return;
    }
    found.push(nobody);
    if cluster_ips.get(family).is_some() {
        let reason = format!(
            "no valid {family} range is left; the load balancer's {family} addresses let no client in"
        );
        findings.add("spec.loadBalancerSourceRanges", "", reason);
    }
}

fn policy(value: Option<&Text<'_>>, field: &str, findings: &mut Findings) -> TrafficPolicy {
    match text(value) {
        "" | "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => {
            findings.add(field, other, "not Cluster or Local; Cluster is used");
            TrafficPolicy::Cluster
        }
    }
}

/// The external policy; `Local` counts only where the type or an external IP makes the Service reachable from outside.
fn external_policy(spec: &ServiceSpec<'_>, findings: &mut Findings) -> TrafficPolicy {
    let written =
        policy(spec.external_traffic_policy.as_ref(), "spec.externalTrafficPolicy", findings);
    let by_type = matches!(text(spec.type_.as_ref()), "NodePort" | "LoadBalancer");
    if by_type || !spec.external_ips.is_empty() { written } else { TrafficPolicy::Cluster }
}

fn affinity(spec: &ServiceSpec<'_>, findings: &mut Findings) -> Option<Duration> {
    match text(spec.session_affinity.as_ref()) {
        "" | "None" => return None,
        "ClientIP" => {}
        other => {
            findings.add("spec.sessionAffinity", other, "not None or ClientIP; None is used");
            return None;
        }
    }
    let config = spec.session_affinity_config.and_then(|c| c.client_ip);
    let given = config.and_then(|c| c.timeout_seconds);
    let given = given.unwrap_or(Int(DEFAULT_AFFINITY.into())).0;
    let mut seconds = u32::try_from(given).unwrap_or_default();
    if !(1..=MAX_AFFINITY).contains(&seconds) {
        let reason = format!("not between 1 and {MAX_AFFINITY}; {DEFAULT_AFFINITY} is used");
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        findings.add(field, &given.to_string(), reason);
        seconds = DEFAULT_AFFINITY;
    }
    Some(Duration::from_secs(seconds.into()))
}

/// The health-check node port: type `LoadBalancer` with external policy `Local` must have one.
fn health_check(
    spec: &ServiceSpec<'_>,
    external: TrafficPolicy,
    findings: &mut Findings,
) -> Option<NonZeroU16> {
    if text(spec.type_.as_ref()) != "LoadBalancer" || external != TrafficPolicy::Local {
        return None;
    }
    let given = spec.health_check_node_port.unwrap_or_default();
    let port = port_number(given);
    if port.is_none() {
        let reason = "not between 1 and 65535, but externalTrafficPolicy Local needs one; \
                      the load balancer gets no health checks";
        findings.add("spec.healthCheckNodePort", &given.0.to_string(), reason);
    }
    port
}

/// The annotation of the userspace mode; `None` if its value means nothing.
fn proxy_protocol<'a>(written: &'a str, findings: &mut Findings) -> Option<&'a str> {
    if !matches!(written, "" | "v1" | "v2") {
        let field = format_args!("metadata.annotations[{}]", Annotations::PROXY_PROTOCOL);
        findings.add(field, written, "not v1 or v2; ignored");
        return None;
    }
    Some(written)
}

/// The annotation of the nftables mode; `None` if its value means nothing.
fn fast_path<'a>(written: &'a str, findings: &mut Findings) -> Option<&'a str> {
    if !matches!(written, "" | "true" | "false") {
        let field = format_args!("metadata.annotations[{}]", Annotations::FAST_PATH);
        findings.add(field, written, "not true or false; ignored");
        return None;
    }
    Some(written)
}

/// The value of an annotation; `None` if there is none, or it means nothing.
fn annotation<T: FromStr<Err = &'static str>>(
    service: &slim::Service<'_>,
    field: impl for<'a> Fn(&'a Annotations<'a>) -> Option<&'a Text<'a>>,
    name: &str,
    findings: &mut Findings,
) -> Option<T> {
    let annotations = service.metadata.as_ref()?.annotations.as_ref()?;
    let written = text(field(annotations));
    if written.is_empty() {
        return None;
    }
    let field = format_args!("metadata.annotations[{name}]");
    let add = |reason| findings.add(field, written, format_args!("{reason}; ignored"));
    written.parse().map_err(add).ok()
}

/// `true` or `false`.
struct Switch(bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err("not true or false"),
        }
    }
}

fn ports(spec: &ServiceSpec<'_>, context: &Context, findings: &mut Findings) -> Vec<Port> {
    let mut found: Vec<Port> = Vec::with_capacity(spec.ports.len());
    let mut known = HashSet::new();
    for (i, port) in spec.ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let Some(protocol) = protocol(port.protocol.as_ref(), field("protocol"), findings) else {
            continue;
        };
        let number = port.port.unwrap_or_default();
        let Some(number) = port_number(number) else {
            let reason = "not between 1 and 65535; the port is ignored";
            findings.add(field("port"), &number.0.to_string(), reason);
            continue;
        };
        let name = text(port.name.as_ref());
        if !known.insert((name, protocol)) {
            let reason = format!("a second {protocol} port of this name; ignored");
            findings.add(field("name"), name, reason);
            continue;
        }
        found.push(Port {
            name: context.name(name),
            protocol,
            port: number,
            node_port: node_port(port.node_port, || field("nodePort"), findings),
        });
    }
    found
}

fn node_port(
    given: Option<Int>,
    field: impl Fn() -> String,
    findings: &mut Findings,
) -> Option<NonZeroU16> {
    let given = given.filter(|number| number.0 != 0)?;
    let port = port_number(given);
    if port.is_none() {
        let reason = "not between 1 and 65535; there is no node port";
        findings.add(field(), &given.0.to_string(), reason);
    }
    port
}
