use expect_test::expect;

use super::*;

#[test]
fn requests_carry_selectors_and_what_they_ask_for() {
    let all = [
        Request::page(Kind::Service, "n", "", true),
        Request::page(Kind::EndpointSlice, "n", "tok/en=", true),
        Request::page(Kind::ServiceCidr, "n", "", false),
        Request::streaming_list(Kind::EndpointSlice, "n", 300),
        Request::watch(Kind::Node, "node-1.example", "123", 599),
    ];
    let text: Vec<_> = all.iter().map(|request| request.0.as_str()).collect();
    expect![[r"
        /api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&fieldSelector=spec.clusterIP%21%3DNone&limit=500
        /apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless&limit=500&continue=tok%2Fen%3D
        /apis/networking.k8s.io/v1/servicecidrs?
        /apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless&watch=true&allowWatchBookmarks=true&timeoutSeconds=300&sendInitialEvents=true&resourceVersionMatch=NotOlderThan
        /api/v1/nodes?fieldSelector=metadata.name%3Dnode-1.example&watch=true&allowWatchBookmarks=true&timeoutSeconds=599&resourceVersion=123"]]
    .assert_eq(&text.join("\n"));
}
