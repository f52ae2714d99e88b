use super::*;
use kube_proxy_core::{ServicePolicy, ZoneSpill};

/// A Service with these fields in `spec`, besides a name and a cluster IP.
fn with(spec: &Value) -> Value {
    let mut full = json!({"clusterIP": "10.96.0.1"});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": full})
}

/// One field of the normalised Service, and the problems.
fn field<T: std::fmt::Debug>(
    spec: &Value,
    pick: impl Fn(&kube_proxy_core::Service) -> T,
    expected: &Expect,
) {
    whole(&with(spec), pick, expected);
}

fn whole<T: std::fmt::Debug>(
    object: &Value,
    pick: impl Fn(&kube_proxy_core::Service) -> T,
    expected: &Expect,
) {
    let text = object.to_string();
    let slim: slim::Service<'_> = serde_json::from_str(&text).unwrap();
    let (service, problems) = super::super::service(&slim, &Context::default());
    let mut text = match service {
        Some(service) => format!("{:?}\n", pick(&service)),
        None => "not proxied\n".to_owned(),
    };
    for problem in problems {
        writeln!(text, "{problem}").unwrap();
    }
    expected.assert_eq(&text);
}

#[test]
fn a_full_service() {
    let object = json!({
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"], "externalIPs": ["198.51.100.1"],
            "loadBalancerSourceRanges": [" 203.0.113.0/24 "], "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP", "healthCheckNodePort": 30100,
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "targetPort": "web"},
                      {"name": "dns", "port": 53, "protocol": "UDP"}]
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "VIP"}, {"ip": "192.0.2.3", "ipMode": "Proxy"},
            {"hostname": "lb.example"}]}}
    });
    service(
        &object,
        &expect![[r#"
            Service {
                name: ObjectName {
                    namespace: "ns",
                    name: "web",
                },
                cluster_ips: PerFamily {
                    v4: Some(
                        10.96.0.1,
                    ),
                    v6: Some(
                        fd00::1,
                    ),
                },
                external_ips: [
                    198.51.100.1,
                ],
                load_balancer_vips: [
                    192.0.2.1,
                    192.0.2.2,
                ],
                policy: ServicePolicy {
                    internal_traffic_policy: Local,
                    external_traffic_policy: Local,
                    no_local_endpoints: None,
                    zone_spill: None,
                    reset_dead_connections: false,
                    algorithm: None,
                    load_balancer_source_ranges: [
                        203.0.113.0/24,
                    ],
                    session_affinity: Some(
                        10800s,
                    ),
                    health_check_node_port: Some(
                        30100,
                    ),
                    annotations: {},
                },
                ports: [
                    Port {
                        name: "http",
                        protocol: Tcp,
                        port: 80,
                        node_port: Some(
                            30080,
                        ),
                    },
                    Port {
                        name: "dns",
                        protocol: Udp,
                        port: 53,
                        node_port: None,
                    },
                ],
            }
        "#]],
    );
}

#[test]
fn what_is_not_proxied() {
    let not_proxied = expect![[r"
        not proxied
    "]];
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"clusterIP": ""}),
        json!({"type": "ExternalName"}),
        json!({"type": "ExternalName", "clusterIP": "10.96.0.1"}),
    ] {
        service(&with(&spec), &not_proxied);
    }
    let mut labelled = with(&json!({}));
    labelled["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": ""});
    service(&labelled, &not_proxied);
    service(&json!({"metadata": {"name": "web"}}), &not_proxied);
}

#[test]
fn a_nameless_service_is_reported() {
    service(
        &json!({"spec": {"clusterIP": "10.96.0.1"}}),
        &expect![[r"
            not proxied
            Service : metadata.name: missing; the object is ignored
        "]],
    );
}

/// They mean something else on each node, or on none, and no kernel takes all of them.
#[test]
fn special_addresses_are_no_cluster_ips() {
    for ip in ["0.0.0.0", "127.0.0.1", "224.0.0.7", "255.255.255.255", "::", "::1", "ff02::7"] {
        let object = with(&json!({"clusterIPs": [ip]})).to_string();
        let slim: slim::Service<'_> = serde_json::from_str(&object).unwrap();
        let (service, problems) = super::super::service(&slim, &Context::default());
        assert!(service.is_none(), "{ip}");
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains("spec.clusterIPs[0]"), "{ip}: {said:?}");
    }
}

#[test]
fn cluster_ips_are_found_by_family() {
    let ips = |spec: Value, expected: Expect| field(&spec, |s| s.cluster_ips, &expected);
    ips(
        json!({"clusterIPs": ["fd00::1", "010.96.0.2"], "ipFamilies": ["IPv6", "IPv4"]}),
        expect![[r"
            PerFamily { v4: Some(10.96.0.2), v6: Some(fd00::1) }
        "]],
    );
    ips(
        json!({"clusterIP": "fd00::9"}),
        expect![[r"
            PerFamily { v4: None, v6: Some(fd00::9) }
        "]],
    );
    ips(
        json!({"clusterIPs": ["10.96.0.1", "10.96.0.2"], "ipFamilies": ["IPv4", "IPv6"]}),
        expect![[r#"
            PerFamily { v4: Some(10.96.0.1), v6: None }
            Service ns/web: spec.clusterIPs[1]: "10.96.0.2": not of the family that spec.ipFamilies[1] names; ignored
        "#]],
    );
    ips(
        json!({"clusterIP": "10.96.0.300"}),
        expect![[r#"
            not proxied
            Service ns/web: spec.clusterIP: "10.96.0.300": not an IP address; ignored
        "#]],
    );
}

#[test]
fn bad_addresses_and_ranges_are_left_out_one_by_one() {
    field(
        &json!({"externalIPs": ["1.2.3.4", "", " ", "nonsense", "1.2.3.4/32", "fd00::5"]}),
        |s| s.external_ips.clone(),
        &expect![[r#"
            [1.2.3.4, fd00::5]
            Service ns/web: spec.externalIPs[3]: "nonsense": not an IP address; ignored
            Service ns/web: spec.externalIPs[4]: "1.2.3.4/32": not an IP address; ignored
        "#]],
    );
    field(
        &json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.0/40", ""]}),
        |s| s.policy.load_balancer_source_ranges.clone(),
        &expect![[r#"
            [10.0.0.0/8, ::/128]
            Service ns/web: spec.loadBalancerSourceRanges[1]: "10.0.0.0/40": not a network like 10.0.0.0/8; ignored
        "#]],
    );
}

#[test]
fn source_ranges_that_are_all_bad_let_nobody_in() {
    field(
        &json!({"loadBalancerSourceRanges": ["10.0.0.0"]}),
        |s| s.policy.load_balancer_source_ranges.clone(),
        &expect![[r#"
            [0.0.0.0/32, ::/128]
            Service ns/web: spec.loadBalancerSourceRanges[0]: "10.0.0.0": not a network like 10.0.0.0/8; ignored
            Service ns/web: spec.loadBalancerSourceRanges: no valid IPv4 range is left; the load balancer's IPv4 addresses let no client in
        "#]],
    );
}

#[test]
fn a_bad_source_range_closes_each_family_that_has_no_good_one() {
    let ranges = |ranges: Value, expected: Expect| {
        let spec = json!({
            "clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
            "loadBalancerSourceRanges": ranges,
        });
        field(&spec, |s| s.policy.load_balancer_source_ranges.clone(), &expected);
    };
    ranges(
        json!(["192.0.2.0/33", "fd00::/8"]),
        expect![[r#"
            [fd00::/8, 0.0.0.0/32]
            Service ns/web: spec.loadBalancerSourceRanges[0]: "192.0.2.0/33": not a network like 10.0.0.0/8; ignored
            Service ns/web: spec.loadBalancerSourceRanges: no valid IPv4 range is left; the load balancer's IPv4 addresses let no client in
        "#]],
    );
    ranges(
        json!(["192.0.2.0/24", "fd00::/129"]),
        expect![[r#"
            [192.0.2.0/24, ::/128]
            Service ns/web: spec.loadBalancerSourceRanges[1]: "fd00::/129": not a network like 10.0.0.0/8; ignored
            Service ns/web: spec.loadBalancerSourceRanges: no valid IPv6 range is left; the load balancer's IPv6 addresses let no client in
        "#]],
    );
    ranges(
        json!(["nonsense", "192.0.2.0/24", "fd00::/8"]),
        expect![[r#"
            [192.0.2.0/24, fd00::/8]
            Service ns/web: spec.loadBalancerSourceRanges[0]: "nonsense": not a network like 10.0.0.0/8; ignored
        "#]],
    );
    ranges(
        json!(["nonsense"]),
        expect![[r#"
            [0.0.0.0/32, ::/128]
            Service ns/web: spec.loadBalancerSourceRanges[0]: "nonsense": not a network like 10.0.0.0/8; ignored
            Service ns/web: spec.loadBalancerSourceRanges: no valid IPv4 range is left; the load balancer's IPv4 addresses let no client in
            Service ns/web: spec.loadBalancerSourceRanges: no valid IPv6 range is left; the load balancer's IPv6 addresses let no client in
        "#]],
    );
    // Without a bad one, a family without ranges is open: no range restricts it.
    ranges(
        json!(["fd00::/8"]),
        expect![[r"
            [fd00::/8]
        "]],
    );
}

#[test]
fn affinity_has_a_default_and_a_range() {
    let affinity = |config: Value, expected: Expect| {
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        field(&spec, |s| s.policy.session_affinity, &expected);
    };
    affinity(
        Value::Null,
        expect![[r"
        Some(10800s)
    "]],
    );
    affinity(
        json!({"clientIP": {"timeoutSeconds": 86400}}),
        expect![[r"
        Some(86400s)
    "]],
    );
    affinity(
        json!({"clientIP": {"timeoutSeconds": 0}}),
        expect![[r#"
        Some(10800s)
        Service ns/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: "0": not between 1 and 86400; 10800 is used
    "#]],
    );
    affinity(
        json!({"clientIP": {"timeoutSeconds": 86401}}),
        expect![[r#"
        Some(10800s)
        Service ns/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: "86401": not between 1 and 86400; 10800 is used
    "#]],
    );
    field(
        &json!({"sessionAffinity": "Cookie"}),
        |s| s.policy.session_affinity,
        &expect![[r#"
        None
        Service ns/web: spec.sessionAffinity: "Cookie": not None or ClientIP; None is used
    "#]],
    );
}

#[test]
fn the_external_policy_counts_only_where_there_is_an_outside() {
    let policy = |spec: Value, expected: Expect| {
        field(&spec, |s| s.policy.external_traffic_policy, &expected);
    };
    policy(
        json!({"externalTrafficPolicy": "Local"}),
        expect![[r"
        Cluster
    "]],
    );
    policy(
        json!({"externalTrafficPolicy": "Local", "type": "NodePort"}),
        expect![[r"
        Local
    "]],
    );
    policy(
        json!({"externalTrafficPolicy": "Local", "externalIPs": ["1.2.3.4"]}),
        expect![[r"
        Local
    "]],
    );
    policy(
        json!({"externalTrafficPolicy": "Global"}),
        expect![[r#"
        Cluster
        Service ns/web: spec.externalTrafficPolicy: "Global": not Cluster or Local; Cluster is used
    "#]],
    );
}

#[test]
fn the_health_check_port_needs_type_and_policy() {
    let port = |spec: Value, expected: Expect| {
        field(&spec, |s| s.policy.health_check_node_port, &expected);
    };
    port(
        json!({"healthCheckNodePort": 30000, "type": "NodePort", "externalTrafficPolicy": "Local"}),
        expect![[r"
            None
        "]],
    );
    port(
        json!({"healthCheckNodePort": 30000, "type": "LoadBalancer"}),
        expect![[r"
        None
    "]],
    );
    port(
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
        expect![[r#"
            None
            Service ns/web: spec.healthCheckNodePort: "0": not between 1 and 65535, but externalTrafficPolicy Local needs one; the load balancer gets no health checks
        "#]],
    );
}

#[test]
fn bad_ports_are_left_out_one_by_one() {
    field(
        &json!({"ports": [
            {"port": 80}, {"name": "zero", "port": 0}, {"name": "big", "port": 65536}, {"name": "none"},
            {"name": "p", "port": 1, "protocol": "ICMP"}, {"name": "sctp", "port": 9, "protocol": "SCTP"},
            {"port": 81}, {"port": 80, "protocol": "UDP"}, {"name": "np", "port": 82, "nodePort": 70000}, null]}),
        |s| {
            s.ports
                .iter()
                .map(|p| format!("{}:{}/{}", p.name, p.port, p.protocol))
                .collect::<Vec<_>>()
        },
        &expect![[r#"
            [":80/TCP", "sctp:9/SCTP", ":80/UDP", "np:82/TCP"]
            Service ns/web: spec.ports[1].port: "0": not between 1 and 65535; the port is ignored
            Service ns/web: spec.ports[2].port: "65536": not between 1 and 65535; the port is ignored
            Service ns/web: spec.ports[3].port: "0": not between 1 and 65535; the port is ignored
            Service ns/web: spec.ports[4].protocol: "ICMP": not TCP, UDP or SCTP; the port is ignored
            Service ns/web: spec.ports[6].name: a second TCP port of this name; ignored
            Service ns/web: spec.ports[8].nodePort: "70000": not between 1 and 65535; there is no node port
            Service ns/web: spec.ports[9].port: "0": not between 1 and 65535; the port is ignored
        "#]],
    );
}

#[test]
fn load_balancer_addresses_are_checked() {
    let mut object = with(&json!({"type": "LoadBalancer"}));
    object["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.999"}, {"ip": "192.0.2.1", "ipMode": "Other"}, {"ip": "192.0.2.2"}, null]}});
    whole(
        &object,
        |s| s.load_balancer_vips.clone(),
        &expect![[r#"
            [192.0.2.2]
            Service ns/web: status.loadBalancer.ingress[0].ip: "192.0.2.999": not an IP address; ignored
            Service ns/web: status.loadBalancer.ingress[1].ipMode: "Other": not VIP or Proxy; the address is ignored
        "#]],
    );
}

#[test]
fn the_proxy_protocol_of_the_userspace_mode() {
    let check = |value: &str, expected: &Expect| {
        let mut object = with(&json!({}));
        object["metadata"]["annotations"] =
            json!({"kube-proxy.io/userspace-proxy-protocol": value});
        whole(&object, |service| service.policy.annotations.clone(), expected);
    };
    check(
        "v1",
        &expect![[r#"
            {"kube-proxy.io/userspace-proxy-protocol": "v1"}
        "#]],
    );
    check(
        "v2",
        &expect![[r#"
            {"kube-proxy.io/userspace-proxy-protocol": "v2"}
        "#]],
    );
    check(
        "",
        &expect![[r#"
            {}
        "#]],
    );
    check(
        "yes",
        &expect![[r#"
            {}
            Service ns/web: metadata.annotations[kube-proxy.io/userspace-proxy-protocol]: "yes": not v1 or v2; ignored
        "#]],
    );
}

#[test]
fn the_fast_path_of_the_nftables_mode() {
    let check = |value: &str, expected: &Expect| {
        let mut object = with(&json!({}));
        object["metadata"]["annotations"] = json!({"kube-proxy.io/fast-path": value});
        whole(&object, |service| service.policy.annotations.clone(), expected);
    };
    check(
        "true",
        &expect![[r#"
            {"kube-proxy.io/fast-path": "true"}
        "#]],
    );
    check(
        "false",
        &expect![[r#"
            {"kube-proxy.io/fast-path": "false"}
        "#]],
    );
    check(
        "",
        &expect![[r#"
            {}
        "#]],
    );
    check(
        "yes",
        &expect![[r#"
            {}
            Service ns/web: metadata.annotations[kube-proxy.io/fast-path]: "yes": not true or false; ignored
        "#]],
    );
}

#[test]
fn names_of_any_form_are_served() {
    for name in ["1st", "0", "a.b", &"x".repeat(300), "ümlaut"] {
        let object = json!({
            "metadata": {"namespace": "ns", "name": name},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}
        });
        whole(
            &object,
            |service| (*service.name.name == *name, service.ports.len()),
            &expect![[r#"
                (true, 1)
            "#]],
        );
    }
}

fn normalised(object: &Value) -> (kube_proxy_core::Service, Vec<String>) {
    let text = object.to_string();
    let slim: slim::Service<'_> = serde_json::from_str(&text).unwrap();
    let (service, problems) = super::super::service(&slim, &Context::default());
    (service.expect("it is proxied"), problems.iter().map(ToString::to_string).collect())
}

#[test]
fn when_a_zone_has_too_few_endpoints() {
    let policy = |value: &str| {
        let mut object = with(&json!({}));
        object["metadata"]["annotations"] = json!({"kube-proxy.io/zone-spill-below": value});
        object["metadata"]["annotations"]["kube-proxy.io/reset-dead-connections"] = json!(value);
        let (service, problems) = normalised(&object);
        (service.policy, problems)
    };
    for (value, expected) in [
        ("3", ZoneSpill::Below(3)),
        ("0", ZoneSpill::Below(0)),
        ("25%", ZoneSpill::BelowPercent(25)),
        ("100%", ZoneSpill::BelowPercent(100)),
    ] {
        assert_eq!(policy(value).0.zone_spill, Some(expected));
    }
    assert_eq!(policy("").0, ServicePolicy::default());
    for value in ["-1", "+1", "101%", "%", "1.5", "many", "4294967296", " 3"] {
        let (policy, problems) = policy(value);
        assert_eq!(policy, ServicePolicy::default(), "{value:?}");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().all(|p| p.contains("ignored")), "{problems:?}");
    }
    let (policy, problems) = policy("true");
    assert!(policy.reset_dead_connections);
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn what_happens_without_local_endpoints() {
    let check = |value: &Value, expected: &Expect| {
        let mut object = with(&json!({}));
        object["metadata"]["annotations"] = json!({"kube-proxy.io/no-local-endpoints": value});
        whole(&object, |service| service.policy.no_local_endpoints, expected);
    };
    check(
        &json!("drop"),
        &expect![[r#"
        Some(Drop)
    "#]],
    );
    check(
        &json!("reject"),
        &expect![[r#"
        Some(Reject)
    "#]],
    );
    check(
        &json!("passthrough"),
        &expect![[r#"
        Some(Passthrough)
    "#]],
    );
    check(
        &json!(""),
        &expect![[r#"
        None
    "#]],
    );
    check(
        &json!(null),
        &expect![[r#"
        None
    "#]],
    );
    check(
        &json!("Reject"),
        &expect![[r#"
        None
        Service ns/web: metadata.annotations[kube-proxy.io/no-local-endpoints]: "Reject": not drop, reject or passthrough; ignored
    "#]],
    );
}

#[test]
fn how_an_endpoint_is_chosen() {
    let check = |value: &Value, expected: &Expect| {
        let mut object = with(&json!({}));
        object["metadata"]["annotations"] = json!({"kube-proxy.io/lb-algorithm": value});
        whole(&object, |service| service.policy.algorithm, expected);
    };
    check(
        &json!("source-hash"),
        &expect![[r#"
        Some(SourceHash)
    "#]],
    );
    check(
        &json!(""),
        &expect![[r#"
        None
    "#]],
    );
    check(
        &json!("maglev"),
        &expect![[r#"
        None
        Service ns/web: metadata.annotations[kube-proxy.io/lb-algorithm]: "maglev": not random, source-hash or least-connections; ignored
    "#]],
    );
}

#[test]
fn ten_thousand_ports_and_each_twice() {
    let port = |n: u32| json!({"name": format!("p{}", n % 10_000), "port": n % 10_000 + 1});
    let object = with(&json!({"ports": (0..20_000).map(port).collect::<Vec<_>>()}));
    let text = object.to_string();
    let slim: slim::Service<'_> = serde_json::from_str(&text).unwrap();
    let (service, problems) = super::super::service(&slim, &Context::default());
    let service = service.unwrap();
    assert_eq!(service.ports.len(), 10_000);
    // The first ones, and a line about the rest.
    assert_eq!(problems.len(), 17);
    assert_eq!(service.service_ports(kube_proxy_core::IpFamily::V4).len(), 10_000);
}
