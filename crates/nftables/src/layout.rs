//! The skeleton of the table: base chains, chains, sets and maps. What is in here is the same on every node of a family.

use kube_proxy_core::IpFamily;
use kube_proxy_netlink::nf_tables::user_data::{SetUserData, TypeOf};
use kube_proxy_netlink::nf_tables::{
    ChainType, Hook, HookPoint, MapData, SetSpec, data_type, set_flags,
};

use crate::chain::REJECT;
use crate::element::SetId;

/// The name of the table, in both families.
pub const TABLE: &str = "kube-proxy";

/// The name of the flowtable, if there is one: connections in it pass by the rules.
pub(crate) const FLOWTABLE: &str = "fast-path";

/// The comment of the table. A table with another one has another layout, and is replaced.
pub(crate) const TABLE_COMMENT: &str = "rules for kube-proxy, layout 5: see docs/nftables.md";

/// Which of the chains that are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    FilterPreroutingPreDnat,
    FilterOutputPreDnat,
    FilterInput,
    FilterForward,
    FilterOutput,
    NatPrerouting,
    NatOutput,
    NatPostrouting,
    Services,
    ShortCircuit,
    FirewallCheck,
    ServiceEndpointsCheck,
    NodeportEndpointsCheck,
    ClusterIpsCheck,
    Sessions,
    Masquerading,
    Reject,
}

/// A chain that is always there.
#[derive(Debug)]
pub(crate) struct StaticChain {
    pub(crate) id: Fixed,
    pub(crate) name: &'static str,
    pub(crate) hook: Option<Hook>,
    pub(crate) comment: &'static str,
}

const fn base(
    id: Fixed,
    name: &'static str,
    kind: ChainType,
    point: HookPoint,
    priority: i32,
) -> StaticChain {
    StaticChain { id, name, hook: Some(Hook { kind, point, priority }), comment: "" }
}

const fn chain(id: Fixed, name: &'static str, comment: &'static str) -> StaticChain {
    StaticChain { id, name, hook: None, comment }
}

/// `dstnat - 10`: before anything rewrites destinations.
const BEFORE_DNAT: i32 = -110;
/// `dstnat`.
const DNAT: i32 = -100;
/// `srcnat`.
const SNAT: i32 = 100;

/// All chains that are always there. Names and priorities are those of the Kubernetes nftables mode, where it has the same chain.
#[rustfmt::skip]
pub(crate) const CHAINS: [StaticChain; 17] = [
    base(Fixed::FilterPreroutingPreDnat, "filter-prerouting-pre-dnat", ChainType::Filter, HookPoint::Prerouting, BEFORE_DNAT),
    base(Fixed::FilterOutputPreDnat, "filter-output-pre-dnat", ChainType::Filter, HookPoint::Output, BEFORE_DNAT),
    base(Fixed::FilterInput, "filter-input", ChainType::Filter, HookPoint::Input, 0),
    base(Fixed::FilterForward, "filter-forward", ChainType::Filter, HookPoint::Forward, 0),
    base(Fixed::FilterOutput, "filter-output", ChainType::Filter, HookPoint::Output, 0),
    base(Fixed::NatPrerouting, "nat-prerouting", ChainType::Nat, HookPoint::Prerouting, DNAT),
    base(Fixed::NatOutput, "nat-output", ChainType::Nat, HookPoint::Output, DNAT),
    base(Fixed::NatPostrouting, "nat-postrouting", ChainType::Nat, HookPoint::Postrouting, SNAT),
    chain(Fixed::Services, "services", "from a service's address and port to the chain that picks an endpoint"),
    chain(Fixed::ShortCircuit, "short-circuit", "externalTrafficPolicy Local, from this node and its pods: all endpoints"),
    chain(Fixed::FirewallCheck, "firewall-check", "loadBalancerSourceRanges"),
    chain(Fixed::ServiceEndpointsCheck, "service-endpoints-check", "services without endpoints: reject, or drop if all are on other nodes"),
    chain(Fixed::NodeportEndpointsCheck, "nodeport-endpoints-check", "the same for node ports"),
    chain(Fixed::ClusterIpsCheck, "cluster-ips-check", "traffic to cluster IPs that no service port takes"),
    chain(Fixed::Sessions, "sessions", "first packets to services with session affinity: remember the endpoint"),
    chain(Fixed::Masquerading, "masquerading", "traffic that must come back through this node"),
    chain(Fixed::Reject, REJECT, ""),
];

/// The comment of a chain that [`CHAINS`] may or may not hold.
pub(crate) fn static_chain(name: &str) -> Option<&'static StaticChain> {
    CHAINS.iter().find(|chain| chain.name == name)
}

/// A field of a key, or of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Ip,
    Client,
    Protocol,
    Port,
    /// A number of four bytes in host order, such as that of a slot.
    Number,
    /// Numbers that stand for a service port.
    ServicePort,
}

/// The fields of a key in one family.
fn fields(key: &[Field], family: IpFamily) -> Vec<Field> {
    let numbers = match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 3,
    };
    let field = |field: &Field| match field {
        Field::ServicePort => vec![Field::Number; numbers],
        other => vec![*other],
    };
    key.iter().flat_map(field).collect()
}

/// What a set maps to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maps {
    /// Nothing: it is a set.
    Nothing,
    ToVerdict,
    ToEndpoint,
}

/// What makes a set special.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    Plain,
    /// Its elements count their hits: new connections, or attempts to connect.
    Counts,
    Intervals,
    /// Rules put elements into it, which vanish after a while.
    Dynamic,
}

struct SetLayout {
    name: &'static str,
    key: &'static [Field],
    maps: Maps,
    special: Special,
    comment: &'static str,
}

const fn set(
    name: &'static str,
    key: &'static [Field],
    maps: Maps,
    special: Special,
    comment: &'static str,
) -> SetLayout {
    SetLayout { name, key, maps, special, comment }
}

const ADDRESS: &[Field] = &[Field::Ip, Field::Protocol, Field::Port];
const NODE_PORT: &[Field] = &[Field::Protocol, Field::Port];
const ADDRESS_SLOT: &[Field] = &[Field::Ip, Field::Protocol, Field::Port, Field::Number];
const NODE_PORT_SLOT: &[Field] = &[Field::Protocol, Field::Port, Field::Number];
const PAIR: &[Field] = &[Field::Ip, Field::Ip, Field::Protocol, Field::Port];
const SESSION: &[Field] = &[Field::Client, Field::ServicePort];
const ADDRESS_SOURCE: &[Field] = &[Field::Ip, Field::Protocol, Field::Port, Field::Ip];

#[rustfmt::skip]
const fn set_layout(id: SetId) -> SetLayout {
    use Maps::{Nothing, ToEndpoint, ToVerdict};
    use Special::{Counts, Dynamic, Intervals, Plain};
    match id {
        SetId::FrontendIps => set("frontend-ips", ADDRESS, ToVerdict, Counts, "every service address with endpoints; packets = new connections"),
        SetId::FrontendNodeports => set("frontend-nodeports", NODE_PORT, ToVerdict, Counts, "every node port with endpoints; packets = new connections"),
        SetId::ShortCircuitIps => set("short-circuit-ips", ADDRESS, ToVerdict, Counts, "external addresses under policy Local, from this node and its pods"),
        SetId::ShortCircuitNodeports => set("short-circuit-nodeports", NODE_PORT, ToVerdict, Counts, "node ports under policy Local, from this node and its pods"),
        SetId::UnservedIps => set("unserved-ips", ADDRESS, ToVerdict, Counts, "service addresses without endpoints; packets = refused or dropped"),
        SetId::UnservedNodeports => set("unserved-nodeports", NODE_PORT, ToVerdict, Counts, "node ports without endpoints; packets = refused or dropped"),
        SetId::LoopbackNodeports => set("loopback-nodeports", NODE_PORT, ToVerdict, Counts, "node ports that nobody serves on loopback; packets = refused"),
        SetId::ClusterEndpoints => set("cluster-endpoints", ADDRESS_SLOT, ToEndpoint, Plain, "service address and slot to endpoint"),
        SetId::LocalEndpoints => set("local-endpoints", ADDRESS_SLOT, ToEndpoint, Plain, "the same, endpoints on this node only"),
        SetId::NodeportClusterEndpoints => set("nodeport-cluster-endpoints", NODE_PORT_SLOT, ToEndpoint, Plain, "node port and slot to endpoint"),
        SetId::NodeportLocalEndpoints => set("nodeport-local-endpoints", NODE_PORT_SLOT, ToEndpoint, Plain, "the same, endpoints on this node only"),
        SetId::StickyIps => set("sticky-ips", ADDRESS, ToVerdict, Plain, "service addresses with session affinity"),
        SetId::StickyNodeports => set("sticky-nodeports", NODE_PORT, ToVerdict, Plain, "the same for node ports"),
        SetId::FirewallAddresses => set("firewall-addresses", ADDRESS, Nothing, Plain, "load-balancer addresses with source ranges"),
        SetId::FirewallSources => set("firewall-sources", ADDRESS_SOURCE, Nothing, Intervals, "who may use them"),
        SetId::FirewallDropped => set("firewall-dropped", ADDRESS, ToVerdict, Counts, "all others; packets = dropped"),
        SetId::ClusterIps => set("cluster-ips", &[Field::Ip], Nothing, Plain, "every cluster IP"),
        SetId::ServiceCidrs => set("service-cidrs", &[Field::Ip], Nothing, Intervals, "where cluster IPs are taken from"),
        SetId::NodeportAddresses => set("nodeport-addresses", &[Field::Ip], Nothing, Intervals, "where node ports are served, of the addresses of this node"),
        SetId::HairpinConnections => set("hairpin-connections", PAIR, Nothing, Plain, "endpoints of this node that reach themselves"),
        SetId::ClientAffinity => set("client-affinity", SESSION, ToEndpoint, Dynamic, "client and service port, as numbers, to the endpoint"),
        SetId::ClientAffinityLocal => set("client-affinity-local", SESSION, ToEndpoint, Dynamic, "the same for policy Local: endpoints on this node only"),
        SetId::FastPathIps => set("fast-path-ips", ADDRESS, Nothing, Plain, "service addresses that are in the fast path, or not, unlike the rest"),
        SetId::FastPathNodeports => set("fast-path-nodeports", NODE_PORT, Nothing, Plain, "the same for node ports"),
    }
}

/// The largest number of clients that session affinity remembers; more are spread without it.
const MAX_AFFINITY: u32 = 1 << 20;

/// The name of a set.
pub(crate) const fn set_name(id: SetId) -> &'static str {
    set_layout(id).name
}

/// A set as it is made.
pub(crate) fn set_spec(id: SetId, family: IpFamily) -> SetSpec<'static> {
    let SetLayout { name, key, maps, special, comment } = set_layout(id);
    let key = fields(key, family);
    let numbers = key.contains(&Field::Number);
    let key_parts = key.iter().map(|field| length_of(*field, family)).collect();
    let types: Vec<u32> = key.iter().map(|field| data_type_of(*field, family)).collect();
    let type_of = |fields: &[Field]| fields.iter().map(|f| type_of(*f, family)).collect::<Vec<_>>();
    let (mut key_type_of, mut data_type_of) = (Vec::new(), Vec::new());
    if numbers {
        // A plain number has no name as a type, so `nft` is told by example.
        key_type_of = type_of(&key);
        data_type_of = match maps {
            Maps::ToEndpoint => type_of(&[Field::Ip, Field::Port]),
            _ => vec![TypeOf::Verdict],
        };
    }
    let mut flags = match special {
        Special::Plain | Special::Counts => 0,
        Special::Intervals if key.len() > 1 => set_flags::INTERVAL | set_flags::CONCATENATION,
        Special::Intervals => set_flags::INTERVAL,
        Special::Dynamic => set_flags::DYNAMIC | set_flags::TIMEOUT,
    };
    if maps != Maps::Nothing {
        flags |= set_flags::MAP;
    }
    let user_data = SetUserData {
        key_in_network_order: key.len() == 1,
        key: &key_type_of,
        data: &data_type_of,
        comment: Some(comment),
    };
    SetSpec {
        name,
        flags,
        key_type: data_type::concatenation(&types),
        key_parts,
        data: match maps {
            Maps::Nothing => None,
            Maps::ToVerdict => Some(MapData::Verdict),
            Maps::ToEndpoint => Some(MapData::Value {
                kind: data_type::concatenation(&[address_type(family), data_type::PORT]),
                length: u32::from(family.bits() / 8) + 4,
            }),
        },
        size: (special == Special::Dynamic).then_some(MAX_AFFINITY),
        counter: special == Special::Counts,
        user_data: user_data.to_bytes(),
    }
}

fn address_type(family: IpFamily) -> u32 {
    match family {
        IpFamily::V4 => data_type::IPV4_ADDRESS,
        IpFamily::V6 => data_type::IPV6_ADDRESS,
    }
}

/// Length in bytes, without padding.
fn length_of(field: Field, family: IpFamily) -> u32 {
    match field {
        Field::Ip | Field::Client => u32::from(family.bits() / 8),
        Field::Protocol => 1,
        Field::Port => 2,
        Field::Number | Field::ServicePort => 4,
    }
}

fn data_type_of(field: Field, family: IpFamily) -> u32 {
    match field {
        Field::Ip | Field::Client => address_type(family),
        Field::Protocol => data_type::TRANSPORT_PROTOCOL,
        Field::Port => data_type::PORT,
        Field::Number | Field::ServicePort => data_type::INTEGER,
    }
}

fn type_of(field: Field, family: IpFamily) -> TypeOf {
    match (field, family) {
        (Field::Ip, IpFamily::V4) => TypeOf::Ip4Destination,
        (Field::Ip, IpFamily::V6) => TypeOf::Ip6Destination,
        (Field::Protocol, _) => TypeOf::TransportProtocol,
        (Field::Port, _) => TypeOf::DestinationPort,
        (Field::Client, IpFamily::V4) => TypeOf::Ip4Source,
        (Field::Client, IpFamily::V6) => TypeOf::Ip6Source,
        (Field::Number | Field::ServicePort, _) => TypeOf::Slot,
    }
}

#[cfg(test)]
mod tests;
