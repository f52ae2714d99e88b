//! The messages of the Kubernetes API that the server encodes: the numbers of `generated.proto`.
//!
//! They are written down here once more, apart from the reader that is tested with them.

/// A message: its fields in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Message(pub(super) &'static [Field]);

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// As in JSON.
    pub(super) name: &'static str,
    pub(super) type_: Type,
    pub(super) presence: Presence,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    Text,
    Number,
    Flag,
    Message(&'static Message),
    /// RFC 3339 in JSON.
    Time,
    /// From text to text.
    Map,
    /// From text to a quantity.
    Quantities,
    IntOrString,
    /// JSON inside protobuf.
    Json,
}

/// When a field is written. The server writes fields that are no pointers in Go even if they are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Always,
    IfSet,
    Repeated,
}

const fn field(number: u32, name: &'static str, type_: Type, presence: Presence) -> Field {
    Field { number, name, type_, presence }
}

const fn text(number: u32, name: &'static str) -> Field {
    field(number, name, Type::Text, Presence::Always)
}

const fn texts(number: u32, name: &'static str) -> Field {
    field(number, name, Type::Text, Presence::Repeated)
}

const fn int(number: u32, name: &'static str) -> Field {
    field(number, name, Type::Number, Presence::Always)
}

const fn flag(number: u32, name: &'static str) -> Field {
    field(number, name, Type::Flag, Presence::Always)
}

const fn message(number: u32, name: &'static str, message: &'static Message) -> Field {
    field(number, name, Type::Message(message), Presence::Always)
}

const fn messages(number: u32, name: &'static str, message: &'static Message) -> Field {
    field(number, name, Type::Message(message), Presence::Repeated)
}

const fn map(number: u32, name: &'static str) -> Field {
    field(number, name, Type::Map, Presence::IfSet)
}

const fn time(number: u32, name: &'static str) -> Field {
    field(number, name, Type::Time, Presence::Always)
}

/// A pointer in Go.
const fn optional(field: Field) -> Field {
    Field { presence: Presence::IfSet, ..field }
}

const OBJECT_META: Message = Message(&[
    text(1, "name"),
    text(2, "generateName"),
    text(3, "namespace"),
    text(4, "selfLink"),
    text(5, "uid"),
    text(6, "resourceVersion"),
    int(7, "generation"),
    time(8, "creationTimestamp"),
    optional(time(9, "deletionTimestamp")),
    optional(int(10, "deletionGracePeriodSeconds")),
    map(11, "labels"),
    map(12, "annotations"),
    messages(13, "ownerReferences", &OWNER_REFERENCE),
    texts(14, "finalizers"),
    messages(17, "managedFields", &MANAGED_FIELDS),
]);

const OWNER_REFERENCE: Message = Message(&[
    text(1, "kind"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    optional(flag(6, "controller")),
    optional(flag(7, "blockOwnerDeletion")),
]);

const MANAGED_FIELDS: Message = Message(&[
    text(1, "manager"),
    text(2, "operation"),
    text(3, "apiVersion"),
    optional(time(4, "time")),
    text(6, "fieldsType"),
    field(7, "fieldsV1", Type::Json, Presence::IfSet),
    text(8, "subresource"),
]);

const OBJECT_REFERENCE: Message = Message(&[
    text(1, "kind"),
    text(2, "namespace"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    text(6, "resourceVersion"),
    text(7, "fieldPath"),
]);

/// `metav1.Condition`
const CONDITION: Message = Message(&[
    text(1, "type"),
    text(2, "status"),
    int(3, "observedGeneration"),
    time(4, "lastTransitionTime"),
    text(5, "reason"),
    text(6, "message"),
]);

pub(super) const LIST_META: Message = Message(&[
    text(1, "selfLink"),
    text(2, "resourceVersion"),
    text(3, "continue"),
    optional(int(4, "remainingItemCount")),
]);

pub(crate) const STATUS: Message = Message(&[
    message(1, "metadata", &LIST_META),
    text(2, "status"),
    text(3, "message"),
    text(4, "reason"),
    optional(message(5, "details", &STATUS_DETAILS)),
    int(6, "code"),
]);

const STATUS_DETAILS: Message = Message(&[
    text(1, "name"),
    text(2, "group"),
    text(3, "kind"),
    messages(4, "causes", &STATUS_CAUSE),
    int(5, "retryAfterSeconds"),
    text(6, "uid"),
]);

const STATUS_CAUSE: Message = Message(&[text(1, "reason"), text(2, "message"), text(3, "field")]);

const SERVICE: Message = Message(&[
    message(1, "metadata", &OBJECT_META),
    message(2, "spec", &SERVICE_SPEC),
    message(3, "status", &SERVICE_STATUS),
]);

const SERVICE_SPEC: Message = Message(&[
    messages(1, "ports", &SERVICE_PORT),
    map(2, "selector"),
    text(3, "clusterIP"),
    text(4, "type"),
    texts(5, "externalIPs"),
    text(7, "sessionAffinity"),
    text(8, "loadBalancerIP"),
    texts(9, "loadBalancerSourceRanges"),
    text(10, "externalName"),
    text(11, "externalTrafficPolicy"),
    int(12, "healthCheckNodePort"),
    flag(13, "publishNotReadyAddresses"),
    optional(message(14, "sessionAffinityConfig", &SESSION_AFFINITY)),
    optional(text(17, "ipFamilyPolicy")),
    texts(18, "clusterIPs"),
    texts(19, "ipFamilies"),
    optional(flag(20, "allocateLoadBalancerNodePorts")),
    optional(text(21, "loadBalancerClass")),
    optional(text(22, "internalTrafficPolicy")),
    optional(text(23, "trafficDistribution")),
]);

const SESSION_AFFINITY: Message = Message(&[optional(message(1, "clientIP", &CLIENT_IP))]);

const CLIENT_IP: Message = Message(&[optional(int(1, "timeoutSeconds"))]);

const SERVICE_PORT: Message = Message(&[
    text(1, "name"),
    text(2, "protocol"),
    int(3, "port"),
    field(4, "targetPort", Type::IntOrString, Presence::Always),
    int(5, "nodePort"),
    optional(text(6, "appProtocol")),
]);

const SERVICE_STATUS: Message =
    Message(&[message(1, "loadBalancer", &LOAD_BALANCER), messages(2, "conditions", &CONDITION)]);

const LOAD_BALANCER: Message = Message(&[messages(1, "ingress", &INGRESS)]);

const INGRESS: Message = Message(&[
    text(1, "ip"),
    text(2, "hostname"),
    optional(text(3, "ipMode")),
    messages(4, "ports", &PORT_STATUS),
]);

const PORT_STATUS: Message =
    Message(&[int(1, "port"), text(2, "protocol"), optional(text(3, "error"))]);

const ENDPOINT_SLICE: Message = Message(&[
    message(1, "metadata", &OBJECT_META),
    messages(2, "endpoints", &ENDPOINT),
    messages(3, "ports", &ENDPOINT_PORT),
    text(4, "addressType"),
]);

const ENDPOINT: Message = Message(&[
    texts(1, "addresses"),
    message(2, "conditions", &ENDPOINT_CONDITIONS),
    optional(text(3, "hostname")),
    optional(message(4, "targetRef", &OBJECT_REFERENCE)),
    map(5, "deprecatedTopology"),
    optional(text(6, "nodeName")),
    optional(text(7, "zone")),
    optional(message(8, "hints", &HINTS)),
]);

const ENDPOINT_CONDITIONS: Message = Message(&[
    optional(flag(1, "ready")),
    optional(flag(2, "serving")),
    optional(flag(3, "terminating")),
]);

const HINTS: Message = Message(&[messages(1, "forZones", &HINT), messages(2, "forNodes", &HINT)]);

const HINT: Message = Message(&[text(1, "name")]);

const ENDPOINT_PORT: Message = Message(&[
    optional(text(1, "name")),
    optional(text(2, "protocol")),
    optional(int(3, "port")),
    optional(text(4, "appProtocol")),
]);

const NODE: Message = Message(&[
    message(1, "metadata", &OBJECT_META),
    message(2, "spec", &NODE_SPEC),
    message(3, "status", &NODE_STATUS),
]);

const NODE_SPEC: Message = Message(&[
    text(1, "podCIDR"),
    text(2, "externalID"),
    text(3, "providerID"),
    flag(4, "unschedulable"),
    messages(5, "taints", &TAINT),
    texts(7, "podCIDRs"),
]);

const TAINT: Message =
    Message(&[text(1, "key"), text(2, "value"), text(3, "effect"), optional(time(4, "timeAdded"))]);

const NODE_STATUS: Message = Message(&[
    field(1, "capacity", Type::Quantities, Presence::IfSet),
    field(2, "allocatable", Type::Quantities, Presence::IfSet),
    text(3, "phase"),
    messages(4, "conditions", &NODE_CONDITION),
    messages(5, "addresses", &NODE_ADDRESS),
]);

const NODE_CONDITION: Message = Message(&[
    text(1, "type"),
    text(2, "status"),
    time(3, "lastHeartbeatTime"),
    time(4, "lastTransitionTime"),
    text(5, "reason"),
    text(6, "message"),
]);

const NODE_ADDRESS: Message = Message(&[text(1, "type"), text(2, "address")]);

const SERVICE_CIDR: Message = Message(&[
    message(1, "metadata", &OBJECT_META),
    message(2, "spec", &SERVICE_CIDR_SPEC),
    message(3, "status", &SERVICE_CIDR_STATUS),
]);

const SERVICE_CIDR_SPEC: Message = Message(&[texts(1, "cidrs")]);

const SERVICE_CIDR_STATUS: Message = Message(&[messages(1, "conditions", &CONDITION)]);

/// The message of a kind; the kinds without one are served in JSON only.
pub(crate) fn of_kind(kind: &str) -> Option<&'static Message> {
    match kind {
        "Service" => Some(&SERVICE),
        "EndpointSlice" => Some(&ENDPOINT_SLICE),
        "Node" => Some(&NODE),
        "ServiceCIDR" => Some(&SERVICE_CIDR),
        _ => None,
    }
}
