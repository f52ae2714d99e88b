//! Labels and annotations: the one table of their names.

use serde::Deserialize;

use super::Text;

/// Declares a map of which only these entries are read: a field for each, its name as a constant, and the field by its name.
macro_rules! entries {
    (
        $(#[$about:meta])*
        $map:ident { $($(#[$doc:meta])* $field:ident, $name:ident = $text:literal;)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Deserialize)]
        pub struct $map<'a> {
            $($(#[$doc])* #[serde(borrow, rename = $text)] pub $field: Option<Text<'a>>,)*
        }

        impl<'a> $map<'a> {
            $(
                #[doc = concat!("The name of [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                pub const $name: &'static str = $text;
            )*

            /// The field of an entry with this name, if it is read.
            pub(crate) fn by_name(&mut self, name: &[u8]) -> Option<&mut Option<Text<'a>>> {
                $(if name == $text.as_bytes() {
                    return Some(&mut self.$field);
                })*
                None
            }
        }
    };
}

entries! {
    /// The labels that a proxy reads.
    Labels {
        /// On an EndpointSlice: its Service.
        service_name, SERVICE_NAME = "kubernetes.io/service-name";
        /// On a Service: another proxy serves it.
        service_proxy_name, SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name";
        /// On an EndpointSlice: its Service is headless.
        headless, HEADLESS = "service.kubernetes.io/headless";
        /// On a Node: its zone.
        zone, ZONE = "topology.kubernetes.io/zone";
    }
}

entries! {
    /// The annotations that a proxy reads.
    Annotations {
        /// On an EndpointSlice: the time of the change that led to this version.
        last_change_trigger_time, LAST_CHANGE_TRIGGER_TIME =
            "endpoints.kubernetes.io/last-change-trigger-time";
        /// On the bookmark that ends the initial events of a streaming list (KEP-3157).
        initial_events_end, INITIAL_EVENTS_END = "k8s.io/initial-events-end";
        /// On a Service: the scheduler of its virtual servers. An extension of this program.
        ipvs_scheduler, IPVS_SCHEDULER = "kube-proxy.io/ipvs-scheduler";
        /// On a Service: the header that connections of the userspace mode to its endpoints begin with. An extension of this program.
        proxy_protocol, PROXY_PROTOCOL = "kube-proxy.io/userspace-proxy-protocol";
        /// On a Service: whether its established connections pass by the rules of the nftables mode. An extension of this program.
        fast_path, FAST_PATH = "kube-proxy.io/fast-path";
        /// On a Service: the treatment of traffic without local endpoints under the external `Local` policy (KEP-6272).
        no_local_endpoints, NO_LOCAL_ENDPOINTS = "kube-proxy.io/no-local-endpoints";
        /// On a Service: how an endpoint is chosen. An extension of this program.
        lb_algorithm, LB_ALGORITHM = "kube-proxy.io/lb-algorithm";
        /// On an EndpointSlice: the weight of its endpoints. An extension of this program.
        weight, WEIGHT = "kube-proxy.io/weight";
        /// On an EndpointSlice: the weights of endpoints by address. An extension of this program.
        endpoint_weights, ENDPOINT_WEIGHTS = "kube-proxy.io/endpoint-weights";
        /// On an EndpointSlice: the weight of its endpoints, as Cilium has it.
        cilium_weight, CILIUM_WEIGHT = "service.cilium.io/weight";
        /// On a Service: how few endpoints of a zone are too few for it alone. An extension of this program.
        zone_spill_below, ZONE_SPILL_BELOW = "kube-proxy.io/zone-spill-below";
        /// On a Service: whether connections to endpoints that left are ended. An extension of this program.
        reset_dead_connections, RESET_DEAD_CONNECTIONS = "kube-proxy.io/reset-dead-connections";
    }
}
