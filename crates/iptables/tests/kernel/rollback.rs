//! From ours to a Go kube-proxy by another image alone: its first restore over our rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use kube_proxy_core::{IpFamily, Protocol};
use kube_proxy_iptables::{InUse, Variant, remove};

use crate::namespace::run;
use crate::samples::{Sample, service, snapshot};
use crate::syncs::{
    Test, backend, endpoint, every_kind, full, ip, many_services, program, restore, saved,
    saved_after_full,
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("names_of_an_earlier_version_are_removed", former_names),
    (LARGE[0], over_every_shape),
    (LARGE[1], cleanup_of_deep_dispatch),
];

/// Need more in one transaction than a user namespace lets iptables-nft send.
pub(crate) const LARGE: [&str; 2] =
    ["a_go_kube_proxy_takes_over_from_every_shape", "cleanup_of_deep_dispatch"];

/// How names begin that a Go kube-proxy deletes in `nat` where it has no such chain.
const GO_STALE: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-"];

/// Its chains that always exist.
const GO_FILTER: [&str; 5] = [
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-SERVICES",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
];
const GO_NAT: [&str; 4] = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];

/// Its hooks: table, chain, rule.
#[rustfmt::skip]
const GO_HOOKS: [(&str, &str, &str); 12] = [
    ("filter", "INPUT", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES"),
    ("filter", "FORWARD", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES"),
    ("filter", "INPUT", "-m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS"),
    ("filter", "FORWARD", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("filter", "OUTPUT", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("filter", "FORWARD", "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD"),
    ("filter", "INPUT", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL"),
    ("filter", "OUTPUT", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL"),
    ("nat", "OUTPUT", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("nat", "PREROUTING", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("nat", "POSTROUTING", "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING"),
];

type Chains = BTreeMap<String, Vec<String>>;

/// What packets are sent to: Services of UDP whose frontends are addresses of this node, so that nothing is lost where no rule is met.
struct Site {
    family: IpFamily,
    /// Endpoint of ours, endpoint of the Go kube-proxy, and those that take what is not translated.
    old: UdpSocket,
    new: UdpSocket,
    untranslated: Vec<UdpSocket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Old,
    New,
    Untranslated,
    Refused,
}

const OLD: u16 = 0xff01;
const NEW: u16 = 0xff02;
const NODE: u16 = 0xff03;
/// Cluster IPs by number.
const WEB: u16 = 0xff10;
const AFFINE: u16 = 0xff11;
const GONE: u16 = 0xff12;
const EMPTY: u16 = 0xff13;
const WEB_PORT: u16 = 31_201;
const GONE_PORT: u16 = 31_202;

impl Site {
    fn new(family: IpFamily) -> Self {
        run("ip", &["link", "set", "lo", "up"]);
        let addresses = [OLD, NEW, NODE].map(|number| ip(family, 1, number));
        let cluster_ips = [WEB, AFFINE, GONE, EMPTY].map(|number| ip(family, 96, number));
        let prefix = family.bits();
        for address in addresses.iter().chain(&cluster_ips).chain([&ip(family, 200, WEB)]) {
            // Usable at once: without duplicate address detection.
            let (address, at_once) = (format!("{address}/{prefix}"), &["nodad"][..]);
            let at_once = if family == IpFamily::V6 { at_once } else { &[] };
            run("ip", &[&["address", "add", &address, "dev", "lo"], at_once].concat());
        }
        let bind = |address: SocketAddr| {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let at = |number| bind(endpoint(family, number).parse().unwrap());
        let any: IpAddr = if family == IpFamily::V4 { [0; 4].into() } else { [0_u16; 8].into() };
        let untranslated = [80, WEB_PORT, GONE_PORT].map(|port| bind((any, port).into()));
        Self { family, old: at(OLD), new: at(NEW), untranslated: untranslated.into() }
    }

    fn samples(&self) -> Vec<Sample> {
        let family = self.family;
        let udp =
            |name: &str, number| service(name, &ip(family, 96, number)).protocol(Protocol::Udp);
        let old = endpoint(family, OLD);
        vec![
            udp("web", WEB).local(&old).node_port(WEB_PORT).external_ip(&ip(family, 200, WEB)),
            udp("affine", AFFINE).local(&old).affinity(10_800),
            udp("gone", GONE).remote(&old).node_port(GONE_PORT),
            udp("empty", EMPTY),
        ]
    }

    /// By frontend: what it leads to before and afterwards.
    fn expected(&self) -> Vec<(SocketAddr, Answer, Answer)> {
        let to = |kind, number, port| -> SocketAddr {
            let ip: IpAddr = ip(self.family, kind, number).parse().unwrap();
            (ip, port).into()
        };
        vec![
            (to(96, WEB, 80), Answer::Old, Answer::New),
            (to(200, WEB, 80), Answer::Old, Answer::New),
            (to(1, NODE, WEB_PORT), Answer::Old, Answer::New),
            (to(96, AFFINE, 80), Answer::Old, Answer::New),
            (to(96, GONE, 80), Answer::Old, Answer::Untranslated),
            (to(1, NODE, GONE_PORT), Answer::Old, Answer::Untranslated),
            (to(96, EMPTY, 80), Answer::Refused, Answer::New),
        ]
    }

    /// Where a packet of a new flow arrives.
    fn send(&self, to: SocketAddr) -> Answer {
        let from: IpAddr = ip(self.family, 1, NODE).parse().unwrap();
        let client = UdpSocket::bind((from, 0)).unwrap();
        client.connect(to).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        let mut has = |socket: &UdpSocket| socket.recv(&mut buffer).is_ok();
        let sent = client.send(b"hello");
        let deadline = Instant::now() + Duration::from_mins(1);
        while Instant::now() < deadline {
            if has(&self.old) {
                return Answer::Old;
            } else if has(&self.new) {
                return Answer::New;
            } else if self.untranslated.iter().any(&mut has) {
                return Answer::Untranslated;
            }
            let refused =
                |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
            let is_refused = sent
                .as_ref()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
                || client.take_error().unwrap().is_some_and(refused);
            if is_refused {
                return Answer::Refused;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("a packet to {to} arrives nowhere: {sent:?}");
    }
}

/// The chain of a Service, as our rules have it.
fn chain_of(rules: &Chains, comment: &str) -> String {
    let comment = format!("\"{comment}\"");
    let rule = rules.values().flatten().find(|rule| rule.contains(&comment)).unwrap();
    rule.rsplit(' ').next().unwrap().to_owned()
}

/// The input of the first restore of a Go kube-proxy over these rules.
fn go_input(site: &Site, rules: &Chains) -> String {
    let family = site.family;
    let mut text = "*filter\n".to_owned();
    let declare = |text: &mut String, chain: &str| writeln!(text, ":{chain} - [0:0]").unwrap();
    for chain in GO_FILTER {
        declare(&mut text, chain);
    }
    text.push_str(
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n*nat\n",
    );
    for chain in GO_NAT {
        declare(&mut text, chain);
    }
    // The hashes are the same, so the chains are ours, written again. The one without endpoints had none.
    let web = chain_of(rules, "default/web:http cluster IP");
    let affine = chain_of(rules, "default/affine:http cluster IP");
    let hash = web.trim_start_matches("KUBE-SVC-");
    let external = format!("KUBE-EXT-{hash}");
    let empty = "KUBE-SVC-EMPTYEMPTYEMPTYE";
    let separate = "KUBE-SEP-NEWNEWNEWNEWNEWN";
    let active = [web.as_str(), &affine, &external, empty, separate];
    for chain in &active {
        declare(&mut text, chain);
    }
    text.push_str(
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n",
    );
    let bits = family.bits();
    for (kind, number, chain) in
        [(96, WEB, &*web), (96, AFFINE, &affine), (96, EMPTY, empty), (200, WEB, &external)]
    {
        let to = format!("-d {}/{bits} -p udp -m udp --dport 80", ip(family, kind, number));
        writeln!(text, "-A KUBE-SERVICES {to} -j {chain}").unwrap();
    }
    writeln!(text, "-A KUBE-NODEPORTS -p udp -m udp --dport {WEB_PORT} -j {external}").unwrap();
    writeln!(text, "-A {external} -j KUBE-MARK-MASQ\n-A {external} -j {web}").unwrap();
    for chain in [&*web, &affine, empty] {
        writeln!(text, "-A {chain} -j {separate}").unwrap();
    }
    let new = endpoint(family, NEW);
    writeln!(text, "-A {separate} -p udp -m udp -j DNAT --to-destination {new}").unwrap();
    let stale: Vec<_> = rules
        .keys()
        .filter_map(|chain| chain.strip_prefix("nat "))
        .filter(|chain| GO_STALE.iter().any(|start| chain.starts_with(start)))
        .filter(|chain| !active.contains(chain))
        .collect();
    for chain in &stale {
        declare(&mut text, chain);
    }
    for chain in &stale {
        writeln!(text, "-X {chain}").unwrap();
    }
    text.push_str(
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" \
         -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n",
    );
    text
}

/// Puts in the hooks that are not there yet.
fn go_hooks(variant: Variant, rules: &Chains) -> String {
    let mut text = String::new();
    for table in ["filter", "nat"] {
        writeln!(text, "*{table}").unwrap();
        for (_, chain, rule) in GO_HOOKS.iter().filter(|(of, ..)| *of == table) {
            let there = rules[&format!("{table} {chain}")].iter();
            if !there.clone().any(|there| *there == format!("{chain} {rule}")) {
                writeln!(text, "-I {chain} {rule}").unwrap();
            }
        }
        text.push_str("COMMIT\n");
    }
    assert!(!text.contains("-I"), "{variant:?}: a hook of ours is not its: {text}");
    text
}

/// Chains that packets may come to.
fn reachable(rules: &Chains) -> BTreeSet<String> {
    let mut reached: BTreeSet<String> =
        rules.keys().filter(|chain| !chain.contains(" KUBE-")).cloned().collect();
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(chain) = open.pop() {
        let table = chain.split(' ').next().unwrap();
        for rule in &rules[&chain] {
            let words: Vec<_> = rule.split(' ').collect();
            let at = words.iter().rposition(|word| *word == "-j" || *word == "-g");
            let Some(target) = at.and_then(|at| words.get(at + 1)) else { continue };
            let target = format!("{table} {target}");
            if rules.contains_key(&target) && reached.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    reached
}

/// Services of every kind, so many that every list and the addresses of local endpoints are split more than once.
fn shapes(family: IpFamily) -> Vec<Sample> {
    let mut samples = every_kind(family);
    let more = many_services(family).into_iter().zip(100..).map(|(sample, number)| {
        let named = sample.with(|s| s.name.name = format!("many{number}").into());
        let with_vip = named.vip(&ip(family, 202, number)).range("192.0.2.0/24");
        with_vip.local(&endpoint(family, 2000 + number)).health_check(32_000 + number)
    });
    samples.extend(more);
    samples
}

fn over_every_shape(variant: Variant, family: IpFamily) {
    let site = Site::new(family);
    let samples = [site.samples(), shapes(family)].concat();
    full(&mut backend(variant, family), &snapshot(family, &samples));
    for (to, before, _) in site.expected() {
        assert_eq!(site.send(to), before, "{to} before");
    }
    let ours = saved(variant, family);
    for start in ["nat KUBE-SEP-HAIRPIN", "nat KUBE-SVC-", "nat KUBE-EXT-", "nat KUBE-FW-"] {
        assert!(ours.keys().any(|chain| chain.starts_with(start)), "there is no {start}");
    }
    restore(variant, family, &go_hooks(variant, &ours));
    restore(variant, family, &go_input(&site, &ours));
    for (to, _, after) in site.expected() {
        assert_eq!(site.send(to), after, "{to} afterwards");
    }
    let theirs = saved(variant, family);
    let go = |chain: &str| {
        let (table, name) = chain.split_once(' ').unwrap();
        match table {
            "filter" => GO_FILTER.contains(&name) || name == "KUBE-FIREWALL",
            _ => {
                GO_NAT.contains(&name) || go_input(&site, &ours).contains(&format!("\n-A {name} "))
            }
        }
    };
    let kube = |chain: &&String| chain.contains(" KUBE-");
    let reached = reachable(&theirs);
    let others: Vec<_> = reached.iter().filter(kube).filter(|chain| !go(chain)).collect();
    assert!(others.is_empty(), "chains of ours are reached: {others:?}");
    let left = |table: &str| {
        let of_table = theirs.keys().filter(|chain| chain.starts_with(table)).filter(kube);
        of_table.filter(|chain| !go(chain) && !chain.ends_with("CANARY")).collect::<Vec<_>>()
    };
    assert_eq!(left("nat "), Vec::<&String>::new());
    assert!(!left("filter ").is_empty());
    run("sh", &["-c", &REMOVAL.replace("iptables", &program(variant, family, ""))]);
    let cleaned = saved(variant, family);
    let left: Vec<_> =
        cleaned.keys().filter(kube).filter(|c| !go(c) && !c.ends_with("CANARY")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// As docs/iptables.md has it.
const REMOVAL: &str = "\
left=$(iptables -t filter -S | grep -oE '^-N KUBE-(HAIRPIN|HPIN-|EXTERNAL-NODEPORTS|SVC-|SVL-|EXT-|FW-|SEP-)[^ ]*' | cut -c4-)
for chain in $left; do iptables -t filter -F $chain; done
for chain in $left; do iptables -t filter -X $chain; done";

/// The names that our chains in `nat` had before they were such that a Go kube-proxy deletes them.
fn former_names(variant: Variant, family: IpFamily) {
    let samples = snapshot(family, &every_kind(family));
    let mut running = backend(variant, family);
    full(&mut running, &samples);
    restore(
        variant,
        family,
        "*nat\n:KUBE-HAIRPIN - [0:0]\n:KUBE-HPIN-10.0.0.0-8 - [0:0]\n:KUBE-HPIN-10.1.0.0-16 - [0:0]\n:KUBE-POSTROUTING - [0:0]\n\
         -A KUBE-POSTROUTING -j KUBE-HAIRPIN\n-A KUBE-HAIRPIN -j KUBE-HPIN-10.0.0.0-8\n\
         -A KUBE-HPIN-10.0.0.0-8 -g KUBE-HPIN-10.1.0.0-16\n-A KUBE-HPIN-10.1.0.0-16 -j MASQUERADE\nCOMMIT\n",
    );
    full(&mut backend(variant, family), &samples);
    assert_eq!(saved(variant, family), saved_after_full(variant, family, &samples));
}

/// Chains of dispatch lead into each other, also those whose names begin as those of endpoints do.
fn cleanup_of_deep_dispatch(variant: Variant, family: IpFamily) {
    let mut running = backend(variant, family);
    full(&mut running, &snapshot(family, &shapes(family)));
    let rules = saved(variant, family);
    let nested = |table: &str| {
        let starts = [format!("{table} KUBE-SEP-"), format!("{table} KUBE-HPIN-")];
        rules
            .iter()
            .filter(|(chain, _)| starts.iter().any(|start| chain.starts_with(start)))
            .flat_map(|(_, rules)| rules)
            .any(|rule| rule.contains("-g KUBE-"))
    };
    assert!(nested("nat") && nested("filter"), "{:?}", rules.keys());
    remove(family, InUse::default()).unwrap();
    let left = saved(variant, family);
    let left: Vec<_> = left
        .keys()
        .filter(|chain| chain.contains(" KUBE-") && !chain.ends_with("KUBE-FIREWALL"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
