//! The rules of each chain, as expressions. `docs/nftables.md` shows them as `nft list` prints them.

use ipnet::IpNet;
use kube_proxy_core::algorithm::HASH_SEED;
use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses, Protocol, TrafficPolicy};
use kube_proxy_netlink::nf_tables::{
    ADDRESS_TYPE_LOCAL, Comparison, CtKey, Expression, FibAddress, MetaKey, PayloadBase, Register,
    SetUpdate, Verdict, ct_state, ct_status, encoded, user_data,
};

use crate::chain::{Balance, Chain, FAST_PATH, Masquerade, Pick, REJECT, Remember, Sessions};
use crate::element::SetId;
use crate::key::KeyKind;
use crate::layout::{FLOWTABLE, Fixed, set_name};
use crate::parts::Parts;
use crate::{Config, fnv};

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What it does.
    pub(crate) expressions: Vec<Expression>,
    /// What for.
    pub(crate) comment: Option<&'static str>,
}

impl Rule {
    /// A number that another rule hardly has: rules on the node are known again by it, also by later versions of this program.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut bytes = encoded(&self.expressions);
        bytes.extend(self.comment.unwrap_or_default().as_bytes());
        fnv::hash(&bytes)
    }

    /// Comment and fingerprint as the kernel keeps them.
    pub(crate) fn user_data(&self) -> Vec<u8> {
        user_data::rule(self.comment, self.fingerprint())
    }
}

/// Rules of one chain of one family.
pub(crate) struct Rules<'a> {
    config: &'a Config,
    parts: Parts,
}

impl<'a> Rules<'a> {
    /// Rules as configured, of a table with these parts.
    pub(crate) fn new(config: &'a Config, parts: Parts) -> Self {
        Self { config, parts }
    }

    /// The rules of a chain that is always there.
    pub(crate) fn of_static(&self, chain: Fixed) -> Vec<Rule> {
        match chain {
            Fixed::FilterPreroutingPreDnat | Fixed::FilterOutputPreDnat => {
                vec![self.new_connection().jump("firewall-check")]
            }
            Fixed::FilterInput => vec![
                self.new_connection().jump("nodeport-endpoints-check"),
                self.new_connection().jump("service-endpoints-check"),
                self.first_packet().jump("sessions"),
            ],
            Fixed::FilterOutput => self.checks(),
            Fixed::FilterForward => {
                let mut rules = self.checks();
                if self.parts.choices {
                    rules.push(self.long_connection().jump(FAST_PATH));
                } else if self.parts.flowtable {
                    rules.push(self.long_connection().offload());
                }
                rules
            }
            Fixed::NatPrerouting | Fixed::NatOutput => vec![self.rule().jump("services")],
            Fixed::NatPostrouting => vec![self.rule().jump("masquerading")],
            Fixed::Services => self.services(),
            Fixed::ShortCircuit => vec![
                self.rule().key(KeyKind::Address, 0).verdict_from(SetId::ShortCircuitIps),
                self.node_port().verdict_from(SetId::ShortCircuitNodeports),
            ],
            Fixed::FirewallCheck => vec![self.firewall()],
            Fixed::ServiceEndpointsCheck => {
                vec![self.rule().key(KeyKind::Address, 0).verdict_from(SetId::UnservedIps)]
            }
            Fixed::NodeportEndpointsCheck => vec![
                self.rule()
                    .sent_to_loopback(Comparison::Equal)
                    .key(KeyKind::NodePort, 0)
                    .verdict_from(SetId::LoopbackNodeports),
                self.node_port().verdict_from(SetId::UnservedNodeports),
            ],
            Fixed::ClusterIpsCheck => vec![
                self.rule()
                    .destination(0)
                    .within(SetId::ClusterIps)
                    .comment("no service has this port")
                    .verdict(Verdict::Goto(REJECT.into())),
                self.rule()
                    .destination(0)
                    .within(SetId::ServiceCidrs)
                    .comment("no service has this address")
                    .verdict(Verdict::Drop),
            ],
            Fixed::Sessions => self.sessions(),
            Fixed::Masquerading => self.masquerading(),
            Fixed::Reject => vec![self.reject()],
        }
    }

    /// The rules of a chain that elements lead to.
    pub(crate) fn of(&self, chain: Chain) -> Vec<Rule> {
        match chain {
            Chain::Reject => vec![self.reject()],
            Chain::Entry(Masquerade::Never, balance) => self.balance(balance),
            Chain::Entry(masquerade, balance) => {
                vec![self.mark_if(masquerade), self.goto(Chain::Entry(Masquerade::Never, balance))]
            }
            Chain::Remember(remember) => self.remember(remember),
            Chain::FastPath => self.fast_path(),
        }
    }

    fn checks(&self) -> Vec<Rule> {
        vec![
            self.new_connection().jump("service-endpoints-check"),
            self.new_connection().jump("cluster-ips-check"),
            self.first_packet().jump("sessions"),
        ]
    }

    /// Connections to services that have had so many packets that they need no rules any more.
    fn long_connection(&self) -> Builder<'a> {
        let packets = self.config.offload_threshold();
        let ct = |key| Expression::Ct { key, to: Register::word(0) };
        let rule = self.rule().expression(ct(CtKey::State));
        let rule = rule.bits(ct_state::ESTABLISHED, Comparison::NotEqual, 0);
        let rule = rule.expression(ct(CtKey::Status));
        let rule = rule.bits(ct_status::DESTINATION_NAT, Comparison::NotEqual, 0);
        let rule = rule.expression(ct(CtKey::Packets));
        let rule = rule.expression(Expression::ToNetworkOrder { register: Register::word(0) });
        rule.compare(Comparison::Greater, &u64::from(packets.get()).to_be_bytes())
    }

    /// The frontends in the sets go into the flowtable, and no others; where all do by default, all others.
    fn fast_path(&self) -> Vec<Rule> {
        let all = self.config.offload_after.is_some();
        let chosen = |rule: Builder<'a>| {
            if all { rule.verdict(Verdict::Return) } else { rule.offload() }
        };
        let mut rules = Vec::new();
        // Nothing else can be offloaded.
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let [address, node_port] = self.sent_to(protocol);
            rules.push(chosen(address.within(SetId::FastPathIps)));
            rules.push(chosen(node_port.within(SetId::FastPathNodeports)));
        }
        if all {
            rules.push(self.rule().offload());
        }
        rules
    }

    fn services(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.config.local_traffic.is_known() {
            rules.push(self.rule().sent_by_local_pod(true).jump("short-circuit"));
        }
        rules.push(self.rule().address_is_local(FibAddress::Source).jump("short-circuit"));
        rules.push(self.rule().key(KeyKind::Address, 0).verdict_from(SetId::FrontendIps));
        rules.push(self.node_port().verdict_from(SetId::FrontendNodeports));
        rules
    }

    fn firewall(&self) -> Rule {
        let key = KeyKind::Address;
        let rule = self.rule().key(key, 0).within(SetId::FirewallAddresses).key(key, 0);
        let end = rule.key_words(key);
        let rule = rule.source(end).not_within(SetId::FirewallSources);
        if self.parts.counts_dropped {
            rule.key(key, 0).verdict_from(SetId::FirewallDropped)
        } else {
            rule.verdict(Verdict::Drop)
        }
    }

    fn masquerading(&self) -> Vec<Rule> {
        let mark = self.config.masquerade_mark;
        let marked = self.rule().meta(MetaKey::Mark, 0).bits(mark, Comparison::NotEqual, 0);
        let marked = marked.meta(MetaKey::Mark, 0).bitwise(u32::MAX, mark).set_mark();
        let hairpin = self
            .rule()
            .expression(Expression::Ct { key: CtKey::Status, to: Register::word(0) })
            .bits(ct_status::DESTINATION_NAT, Comparison::NotEqual, 0)
            .pair_key()
            .within(SetId::HairpinConnections);
        vec![
            marked.expression(Expression::Masquerade).build(),
            hairpin
                .expression(Expression::Masquerade)
                .comment("from an endpoint to itself")
                .build(),
        ]
    }

    fn reject(&self) -> Rule {
        let family = self.config.netlink_family();
        self.rule().expression(Expression::RejectPortUnreachable { family }).build()
    }

    /// Sets the masquerade mark, if the packet is one of those.
    fn mark_if(&self, masquerade: Masquerade) -> Rule {
        let rule = match masquerade {
            Masquerade::Never | Masquerade::Always => self.rule(),
            Masquerade::Outside => self.rule().sent_by_local_pod(false),
            Masquerade::Node => {
                self.rule().sent_by_local_pod(false).address_is_local(FibAddress::Source)
            }
        };
        let mark = self.config.masquerade_mark;
        rule.meta(MetaKey::Mark, 0).bitwise(!mark, mark).set_mark().build()
    }

    fn balance(&self, balance: Balance) -> Vec<Rule> {
        let Balance { key, endpoints, count, pick, affinity } = balance;
        if let Some(sessions) = affinity {
            let plain = Balance { affinity: None, ..balance };
            let plain = Chain::Entry(Masquerade::Never, plain);
            return vec![self.remembered(sessions, endpoints), self.goto(plain)];
        }
        let rule = self.rule().key(key, 0);
        let slot = rule.key_words(key);
        let rule = match pick {
            Pick::Random => rule.random(count, slot),
            Pick::Source => rule.source(slot + 1).hash(slot + 1, count, slot),
        };
        vec![rule.dnat_from(SetId::endpoints(key, endpoints))]
    }

    /// To the endpoint of the client's session.
    fn remembered(&self, sessions: Sessions, endpoints: TrafficPolicy) -> Rule {
        let (rule, endpoint) = self.rule().protocol(sessions.protocol).session_key(sessions);
        let rule = rule.comment(
            "the client; the address, protocol and port in the name of this chain as numbers",
        );
        rule.lookup(SetId::sessions(endpoints), endpoint).dnat(endpoint).build()
    }

    /// The endpoint that the packet goes to is the client's session: a new one, or if it has one, that starts its time again.
    fn remember(&self, remember: Remember) -> Vec<Rule> {
        let Remember { sessions, timeout, local } = remember;
        let words = self.address_words();
        let update = |rule: Builder<'a>, endpoints| {
            let (rule, data) = rule.session_key(sessions);
            let rule = rule.destination(data).port(data + words);
            rule.update(SetId::sessions(endpoints), data, timeout).build()
        };
        let mut rules = vec![update(self.rule(), TrafficPolicy::Cluster)];
        if local {
            // TrafficPolicy that may reach themselves are those on this node.
            let here = self.rule().destination(0).key(KeyKind::Address, words);
            rules.push(update(here.within(SetId::HairpinConnections), TrafficPolicy::Local));
        }
        rules
    }

    /// By what the client sent to, as the packet has the endpoint's address by now.
    fn sessions(&self) -> Vec<Rule> {
        // One rule for each protocol: `nft` takes the port for one only where the protocol is known.
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        all.into_iter().flat_map(|protocol| self.sessions_of(protocol)).collect()
    }

    fn sessions_of(&self, protocol: Protocol) -> [Rule; 2] {
        let [address, node_port] = self.sent_to(protocol);
        [address.verdict_from(SetId::StickyIps), node_port.verdict_from(SetId::StickyNodeports)]
    }

    /// What the client sent to, up to the key of a frontend: as an address, and as a node port.
    fn sent_to(&self, protocol: Protocol) -> [Builder<'a>; 2] {
        let words = self.address_words();
        let address = || {
            let key = CtKey::OriginalDestination(self.config.netlink_family());
            let rule = self.rule().protocol(protocol);
            rule.expression(Expression::Ct { key, to: Register::word(0) })
        };
        let port = |rule: Builder<'a>, at: u32| {
            let to = Register::word(at + 1);
            let rule = rule.meta(MetaKey::TransportProtocol, at);
            rule.expression(Expression::Ct { key: CtKey::OriginalDestinationPort, to })
        };
        let node_port = match self.config.node_ports {
            NodePortAddresses::All => self.rule().protocol(protocol),
            NodePortAddresses::Within(_) => address().within(SetId::NodeportAddresses),
        };
        [port(address(), words), port(node_port, 0)]
    }

    fn goto(&self, chain: Chain) -> Rule {
        self.rule().verdict(Verdict::Goto(chain.to_string().into()))
    }

    /// A packet with a rewritten destination whose connection is not confirmed: the first one, and no repetition of it.
    fn first_packet(&self) -> Builder<'a> {
        let status = Expression::Ct { key: CtKey::Status, to: Register::word(0) };
        let (rewritten, confirmed) = (ct_status::DESTINATION_NAT, ct_status::CONFIRMED);
        self.rule().expression(status).bits(rewritten | confirmed, Comparison::Equal, rewritten)
    }

    fn new_connection(&self) -> Builder<'a> {
        let state = Expression::Ct { key: CtKey::State, to: Register::word(0) };
        self.rule().expression(state).bits(ct_state::NEW, Comparison::NotEqual, 0)
    }

    /// Traffic to a node port, up to its key.
    fn node_port(&self) -> Builder<'a> {
        let rule = self.rule().address_is_local(FibAddress::Destination);
        let rule = rule.sent_to_loopback(Comparison::NotEqual);
        let rule = match self.config.node_ports {
            NodePortAddresses::All => rule,
            NodePortAddresses::Within(_) => rule.destination(0).within(SetId::NodeportAddresses),
        };
        rule.key(KeyKind::NodePort, 0)
    }

    fn rule(&self) -> Builder<'a> {
        Builder { config: self.config, rule: Rule::default() }
    }

    /// Registers that an address takes.
    fn address_words(&self) -> u32 {
        u32::from(self.config.family.bits()) / 32
    }
}

/// A rule that grows from left to right, as `nft` would write it. Keys begin in register 0.
struct Builder<'a> {
    config: &'a Config,
    rule: Rule,
}

impl Builder<'_> {
    fn build(self) -> Rule {
        self.rule
    }

    fn expression(mut self, expression: Expression) -> Self {
        self.rule.expressions.push(expression);
        self
    }

    fn comment(mut self, comment: &'static str) -> Self {
        self.rule.comment = Some(comment);
        self
    }

    fn verdict(self, verdict: Verdict<'static>) -> Rule {
        self.expression(Expression::Verdict(verdict)).build()
    }

    fn offload(self) -> Rule {
        self.expression(Expression::Offload { flowtable: FLOWTABLE.to_owned() }).build()
    }

    fn jump(self, chain: &'static str) -> Rule {
        self.verdict(Verdict::Jump(chain.into()))
    }

    fn address_words(&self) -> u32 {
        u32::from(self.config.family.bits()) / 32
    }

    /// Registers that a frontend's key takes.
    fn key_words(&self, kind: KeyKind) -> u32 {
        match kind {
            KeyKind::Address => self.address_words() + 2,
            KeyKind::NodePort => 2,
        }
    }

    fn payload(self, base: PayloadBase, offset: u32, length: u32, to: u32) -> Self {
        self.expression(Expression::Payload { base, offset, length, to: Register::word(to) })
    }

    fn source(self, to: u32) -> Self {
        let (offset, length) = match self.config.family {
            IpFamily::V4 => (12, 4),
            IpFamily::V6 => (8, 16),
        };
        self.payload(PayloadBase::Network, offset, length, to)
    }

    fn destination(self, to: u32) -> Self {
        let (offset, length) = match self.config.family {
            IpFamily::V4 => (16, 4),
            IpFamily::V6 => (24, 16),
        };
        self.payload(PayloadBase::Network, offset, length, to)
    }

    /// Whether the packet has this protocol; `nft` wants it known where ports are rewritten or read from connection tracking.
    fn protocol(self, protocol: Protocol) -> Self {
        let rule = self.meta(MetaKey::TransportProtocol, 0);
        rule.compare(Comparison::Equal, &[protocol.number()])
    }

    /// Protocol and destination port.
    fn port_key(self, to: u32) -> Self {
        self.meta(MetaKey::TransportProtocol, to).port(to + 1)
    }

    /// The destination port.
    fn port(self, to: u32) -> Self {
        // All protocols that services have keep the ports where TCP does.
        self.payload(PayloadBase::Transport, 2, 2, to)
    }

    /// The client, and what the sessions of a service port are known by; also where the register after this key is.
    fn session_key(self, sessions: Sessions) -> (Self, u32) {
        let end = self.address_words();
        sessions
            .numbers()
            .into_iter()
            .fold((self.source(0), end), |(rule, at), number| (rule.number(number, at), at + 1))
    }

    /// The key of a frontend.
    fn key(self, kind: KeyKind, to: u32) -> Self {
        match kind {
            KeyKind::Address => {
                let words = self.address_words();
                self.destination(to).port_key(to + words)
            }
            KeyKind::NodePort => self.port_key(to),
        }
    }

    /// Source, destination, protocol and destination port.
    fn pair_key(self) -> Self {
        let words = self.address_words();
        self.source(0).key(KeyKind::Address, words)
    }

    fn meta(self, key: MetaKey, to: u32) -> Self {
        self.expression(Expression::Meta { key, to: Register::word(to) })
    }

    fn compare(self, comparison: Comparison, value: &[u8]) -> Self {
        let (register, value) = (Register::word(0), value.to_vec());
        self.expression(Expression::Compare { comparison, register, value })
    }

    fn mask(self, mask: &[u8]) -> Self {
        let (from, to, xor) = (Register::word(0), Register::word(0), vec![0; mask.len()]);
        self.expression(Expression::Bitwise { from, to, mask: mask.to_vec(), xor })
    }

    /// Compares some bits of a number in register 0.
    fn bits(self, mask: u32, comparison: Comparison, value: u32) -> Self {
        self.mask(&mask.to_ne_bytes()).compare(comparison, &value.to_ne_bytes())
    }

    fn bitwise(self, mask: u32, xor: u32) -> Self {
        self.expression(Expression::Bitwise {
            from: Register::word(0),
            to: Register::word(0),
            mask: mask.to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        })
    }

    fn set_mark(self) -> Self {
        self.expression(Expression::SetMeta { key: MetaKey::Mark, from: Register::word(0) })
    }

    /// Whether the destination is a loopback address.
    fn sent_to_loopback(self, comparison: Comparison) -> Self {
        let loopback = match self.config.family {
            IpFamily::V4 => IpNet::V4(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)),
            IpFamily::V6 => IpNet::V6(std::net::Ipv6Addr::LOCALHOST.into()),
        };
        self.destination(0).in_net(&loopback, comparison)
    }

    /// Whether the address in register 0 is in a network.
    fn in_net(self, net: &IpNet, comparison: Comparison) -> Self {
        match net {
            IpNet::V4(net) => self.masked(
                &net.netmask().octets(),
                net.prefix_len() == 32,
                comparison,
                &net.network().octets(),
            ),
            IpNet::V6(net) => self.masked(
                &net.netmask().octets(),
                net.prefix_len() == 128,
                comparison,
                &net.network().octets(),
            ),
        }
    }

    fn masked(self, mask: &[u8], whole: bool, comparison: Comparison, value: &[u8]) -> Self {
        let rule = if whole { self } else { self.mask(mask) };
        rule.compare(comparison, value)
    }

    fn address_is_local(self, of: FibAddress) -> Self {
        let lookup = Expression::FibAddressType { of, to: Register::word(0) };
        self.expression(lookup).compare(Comparison::Equal, &ADDRESS_TYPE_LOCAL.to_ne_bytes())
    }

    /// Whether the packet comes from a pod of this node (or does not). Nothing if that is not known.
    fn sent_by_local_pod(self, is: bool) -> Self {
        let comparison = if is { Comparison::Equal } else { Comparison::NotEqual };
        match &self.config.local_traffic {
            LocalTrafficDetector::None => self,
            LocalTrafficDetector::Cidr(net) => self.source(0).in_net(net, comparison),
            LocalTrafficDetector::Bridge(name) => {
                // The whole name, with its NULs: a shorter comparison would be one of prefixes.
                let mut padded = [0; 16];
                let length = name.len().min(15);
                padded[..length].copy_from_slice(&name.as_bytes()[..length]);
                self.meta(MetaKey::InputInterfaceName, 0).compare(comparison, &padded)
            }
            LocalTrafficDetector::InterfacePrefix(prefix) => {
                let prefix = &prefix.as_bytes()[..prefix.len().min(15)];
                self.meta(MetaKey::InputInterfaceName, 0).compare(comparison, prefix)
            }
        }
    }

    fn within(self, set: SetId) -> Self {
        self.lookup_set(set, None, false)
    }

    fn not_within(self, set: SetId) -> Self {
        self.lookup_set(set, None, true)
    }

    /// Loads what the key in register 0 maps to.
    fn lookup(self, map: SetId, to: u32) -> Self {
        self.lookup_set(map, Some(Register::word(to)), false)
    }

    fn lookup_set(self, set: SetId, to: Option<Register>, invert: bool) -> Self {
        let (set, key) = (set_name(set).to_owned(), Register::word(0));
        self.expression(Expression::Lookup { set, key, to, invert })
    }

    fn verdict_from(self, map: SetId) -> Rule {
        let map = set_name(map).to_owned();
        self.expression(Expression::LookupVerdict { map, key: Register::word(0) }).build()
    }

    fn random(self, modulus: u32, to: u32) -> Self {
        self.expression(Expression::Random { modulus, offset: 0, to: Register::word(to) })
    }

    /// A number below the modulus, by the address in a register.
    fn hash(self, address: u32, modulus: u32, to: u32) -> Self {
        let length = self.address_words() * 4;
        let (from, to) = (Register::word(address), Register::word(to));
        self.expression(Expression::Hash { from, length, modulus, seed: HASH_SEED, to })
    }

    /// Always the same number, in a form that `nft` can print and load again within a concatenation.
    fn number(self, number: u32, to: u32) -> Self {
        self.expression(Expression::Random { modulus: 1, offset: number, to: Register::word(to) })
    }

    /// To the endpoint that the key in register 0 maps to.
    fn dnat_from(self, map: SetId) -> Rule {
        self.lookup(map, 0).dnat(0).build()
    }

    /// To the address and port in registers.
    fn dnat(self, at: u32) -> Self {
        let port = Register::word(at + self.address_words());
        let (family, address) = (self.config.netlink_family(), Register::word(at));
        self.expression(Expression::DestinationNat { family, address, port })
    }

    /// Puts the key in register 0 into a map, or starts the time of the element again that has it.
    fn update(self, map: SetId, data: u32, seconds: u32) -> Self {
        self.expression(Expression::UpdateSet {
            update: SetUpdate::Refresh,
            set: set_name(map).to_owned(),
            key: Register::word(0),
            data: Some(Register::word(data)),
            timeout: u64::from(seconds) * 1000,
        })
    }
}

#[cfg(test)]
mod tests;
