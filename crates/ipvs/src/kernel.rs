//! The one place where the kernel is touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube_proxy_core::{IpFamily, Session, SyncError};
use kube_proxy_netlink::ipset::{Entry, Header, Ipset, SetType};
use kube_proxy_netlink::ipvs::{Change, Destination, Found, Ipvs, ServerKey};
use kube_proxy_netlink::route::{Address, Route};
use kube_proxy_netlink::{Errno, Error, Family, Refusal};
use kube_proxy_xtables::{Check, Programs, Variant};

use crate::connections::{self, Connection, Template};
use crate::{Config, DEVICE, sysctls};

/// Destinations that the kernel did not take, with their virtual servers.
pub(crate) type Unfit = BTreeSet<(ServerKey, SocketAddr)>;

/// What the backend needs of the kernel, of one family.
pub(crate) trait Kernel: Send {
    /// Virtual servers of the family, whosever they are.
    fn servers(&mut self) -> Result<Vec<Found>, SyncError>;
    /// One virtual server, if it is there.
    fn server(&mut self, key: ServerKey) -> Result<Option<Found>, SyncError>;
    fn destinations(&mut self, key: ServerKey) -> Result<Vec<Destination>, SyncError>;
    /// Connections and flows of both families, whosever virtual servers they came to.
    fn connections(&mut self) -> Result<Vec<Connection>, SyncError>;
    /// What session affinity remembers of a client at a virtual server.
    fn session(&mut self, key: ServerKey, client: IpAddr) -> Result<Option<Session>, SyncError>;
    /// Carries out all changes that it can; an error names one of the others. New destinations whose addresses this kernel
    /// takes for those of no host are no error, and are returned with their virtual servers.
    fn change(&mut self, changes: &[Change]) -> Result<Unfit, SyncError>;
    /// Whether there is a scheduler with this name; tried with a virtual server that nothing sends to.
    fn knows_scheduler(&mut self, name: &str) -> Result<bool, SyncError>;
    /// The index of the interface for services, if it is there.
    fn device(&mut self) -> Result<Option<u32>, SyncError>;
    fn add_device(&mut self) -> Result<(), SyncError>;
    fn delete_device(&mut self) -> Result<(), SyncError>;
    /// Addresses of both families.
    fn addresses(&mut self) -> Result<Vec<Address>, SyncError>;
    /// The index of the interface that has an address; `None` if it is none of this host.
    fn interface_of(&mut self, ip: IpAddr) -> Result<Option<u32>, SyncError>;
    /// The next hops of all routes of the family.
    fn next_hops(&mut self) -> Result<BTreeSet<IpAddr>, SyncError>;
    fn add_addresses(&mut self, index: u32, addresses: &[IpAddr]) -> Result<(), SyncError>;
    fn delete_addresses(&mut self, index: u32, addresses: &[IpAddr]) -> Result<(), SyncError>;
    fn sets(&mut self) -> Result<Vec<Header>, SyncError>;
    fn members(&mut self, set: &str) -> Result<Vec<Entry>, SyncError>;
    /// Whether a set has an entry; `None` if there is no such set.
    fn contains(&mut self, set: &str, entry: Entry) -> Result<Option<bool>, SyncError>;
    fn create_set(&mut self, set: &str, kind: SetType, max: u32) -> Result<(), SyncError>;
    fn destroy_set(&mut self, set: &str) -> Result<(), SyncError>;
    fn swap_sets(&mut self, set: &str, other: &str) -> Result<(), SyncError>;
    fn add_entries(&mut self, set: &str, entries: &[Entry]) -> Result<(), SyncError>;
    fn delete_entries(&mut self, set: &str, entries: &[Entry]) -> Result<(), SyncError>;
    /// Hands over each line of `iptables-save` for one table.
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError>;
    fn restore(&mut self, input: &str) -> Result<(), SyncError>;
    fn holds(&mut self, checks: &[Check]) -> Result<bool, SyncError>;
    /// Whether each of these rules of a table, with its chain, is there.
    fn find_rules(&mut self, table: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError>;
    /// Sysctls and timeouts.
    fn prepare(&mut self, config: &Config) -> Result<(), SyncError>;
}

/// `IPSET_ERR_FIND_TYPE`: the kernel does not have the type of set, or not with what is asked of it.
const UNKNOWN_SET_TYPE: i32 = 4098;

/// The kernel of this node.
pub(crate) struct Node {
    family: IpFamily,
    /// `None` where things are to be removed and there can be no virtual servers.
    ipvs: Option<Ipvs>,
    /// The same for sets.
    ipset: Option<Ipset>,
    route: Route,
    /// `None` where only other things are to be removed.
    rules: Option<Programs>,
}

impl Node {
    /// Opens everything; says in one sentence what is missing.
    pub(crate) fn open(config: &Config) -> Result<Self, SyncError> {
        let missing = |what: &str, error: &Error| {
            SyncError::Unsupported(format!("ipvs mode needs {what}, and CAP_NET_ADMIN: {error}"))
        };
        let programs = Programs::choose(config.family, config.variant)?;
        programs.try_out()?;
        Ok(Self {
            family: config.family,
            ipvs: Some(Ipvs::open().map_err(|e| {
                missing("a kernel with IP virtual server (module ip_vs; `modprobe ip_vs`)", &e)
            })?),
            ipset: Some(
                Ipset::open().map_err(|e| missing("a kernel with ipset (module ip_set)", &e))?,
            ),
            route: Route::open().map_err(|e| missing("rtnetlink", &e))?,
            rules: Some(programs),
        })
    }

    /// Opens what is needed to remove things. Loads no module: without one there is nothing of its kind.
    pub(crate) fn open_to_remove(family: IpFamily) -> Result<Self, SyncError> {
        let route = Route::open().map_err(sync_error)?;
        let mut node = Self { family, ipvs: None, ipset: None, route, rules: None };
        if Path::new("/sys/module/ip_set").exists() {
            node.ipset = Some(Ipset::open().map_err(sync_error)?);
        }
        if Path::new("/proc/thread-self/net/ip_vs").exists() {
            let mut ipvs = Ipvs::open().map_err(sync_error)?;
            match ipvs.servers() {
                // Only root of the host may, and then only root of the host did.
                Err(error) if error.is_permission() => {
                    tracing::debug!("not looking for virtual servers: {error}");
                }
                result => {
                    result.map_err(sync_error)?;
                    node.ipvs = Some(ipvs);
                }
            }
        }
        Ok(node)
    }

    /// Whether there can be rules of this mode: they look packets up in sets.
    pub(crate) fn has_sets(&self) -> bool {
        self.ipset.is_some()
    }

    fn ipvs(&mut self) -> Result<&mut Ipvs, SyncError> {
        let missing = || SyncError::Unsupported("there is no IPVS (module ip_vs)".to_owned());
        self.ipvs.as_mut().ok_or_else(missing)
    }

    fn ipset(&mut self) -> Result<&mut Ipset, SyncError> {
        let missing = || SyncError::Unsupported("there are no sets (module ip_set)".to_owned());
        self.ipset.as_mut().ok_or_else(missing)
    }

    fn rules(&self) -> Result<&Programs, SyncError> {
        let missing = || SyncError::Unsupported("no iptables programs were chosen".to_owned());
        self.rules.as_ref().ok_or_else(missing)
    }

    /// The variant of iptables in use.
    pub(crate) fn variant(&self) -> Variant {
        self.rules.as_ref().map_or(Variant::Auto, Programs::variant)
    }

    /// Whether MASQUERADE knows `--random-fully`.
    pub(crate) fn knows_random_fully(&self) -> bool {
        self.rules.as_ref().is_some_and(Programs::knows_random_fully)
    }

    fn netlink_family(&self) -> Family {
        match self.family {
            IpFamily::V4 => Family::V4,
            IpFamily::V6 => Family::V6,
        }
    }
}

/// Held while all virtual servers are listed, and while this process changes some. The kernel's list begins each of its messages after so
/// and so many virtual servers, those of the other family among them: one that is deleted in between hides another
/// (`ip_vs_genl_dump_services`).
static TABLE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of netlink as one of a sync.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn sync_error(error: Error) -> SyncError {
    of_refusal(error.to_string(), error.refusals().next())
}

fn of_refusal(message: String, refusal: Option<&Refusal>) -> SyncError {
    let object = refusal.and_then(|refusal| Some((refusal.target.as_ref()?, refusal.errno)));
    let Some((target, errno)) = object else { return SyncError::Refused(message) };
    let refusal = kube_proxy_core::Refusal {
        kind: target.kind,
        name: target.name.clone(),
        errno: errno as i32,
    };
    SyncError::RefusedObject { message, refusal }
}

fn refused(refusals: &[Refusal]) -> Result<(), SyncError> {
    let Some(first) = refusals.first() else { return Ok(()) };
    let more = match refusals.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Err(of_refusal(format!("{first}{more}"), Some(first)))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unread(error: std::io::Error) -> SyncError {
    SyncError::Refused(format!(
        "cannot read {}, the connections of IPVS: {error}",
        connections::FILE
    ))
}

impl Kernel for Node {
    fn servers(&mut self) -> Result<Vec<Found>, SyncError> {
        let Some(ipvs) = &mut self.ipvs else { return Ok(Vec::new()) };
        let _alone = alone();
        let mut found = ipvs.servers().map_err(sync_error)?;
        let v6 = self.family == IpFamily::V6;
        found.retain(|found| found.key.is_ipv6() == v6);
        Ok(found)
    }

    fn server(&mut self, key: ServerKey) -> Result<Option<Found>, SyncError> {
        self.ipvs()?.server(key).map_err(sync_error)
    }

    fn destinations(&mut self, key: ServerKey) -> Result<Vec<Destination>, SyncError> {
        self.ipvs()?.destinations(key).map_err(sync_error)
    }

    fn connections(&mut self) -> Result<Vec<Connection>, SyncError> {
        let lines = BufReader::new(File::open(connections::FILE).map_err(unread)?).lines();
        let parsed = lines.map(|line| line.map(|line| connections::parse(&line)));
        parsed.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(unread)
    }

    fn session(&mut self, key: ServerKey, client: IpAddr) -> Result<Option<Session>, SyncError> {
        for line in BufReader::new(File::open(connections::FILE).map_err(unread)?).lines() {
            let template = connections::parse_template(&line.map_err(unread)?);
            let is_asked = |of: &Template| of.server == key && of.client == client;
            if let Some(template) = template.filter(is_asked) {
                return Ok(Some(template.session));
            }
        }
        Ok(None)
    }

    fn change(&mut self, changes: &[Change]) -> Result<Unfit, SyncError> {
        let mut unfit = Unfit::new();
        if changes.is_empty() {
            return Ok(unfit);
        }
        let _alone = alone();
        let mut others = Vec::new();
        for (change, refusal) in self.ipvs()?.change(changes).map_err(sync_error)? {
            match change {
                // `ip_vs_new_dest` in the kernel.
                Change::AddDestination(key, to, _) if refusal.errno == Errno::EINVAL => {
                    unfit.insert((key, to));
                }
                _ => others.push(refusal),
            }
        }
        refused(&others).map(|()| unfit)
    }

    fn knows_scheduler(&mut self, name: &str) -> Result<bool, SyncError> {
        let probe = sysctls::probe_server(self.family, name);
        let key = sysctls::probe_key(self.family);
        let alone = alone();
        // One that a killed process left.
        let _ = self.ipvs()?.change(&[Change::Delete(key)]);
        let refusals = self.ipvs()?.change(&[probe]).map_err(sync_error)?;
        drop(alone);
        match refusals.into_iter().next() {
            None => {
                self.change(&[Change::Delete(key)])?;
                Ok(true)
            }
            Some((_, refusal)) if refusal.errno == Errno::ENOENT => Ok(false),
            Some((_, refusal)) => refused(&[refusal]).map(|()| true),
        }
    }

    fn device(&mut self) -> Result<Option<u32>, SyncError> {
        match self.route.link(DEVICE).map_err(sync_error)? {
            None => Ok(None),
            Some(link) if link.kind.as_deref() == Some("dummy") => Ok(Some(link.index)),
            Some(link) => Err(SyncError::Refused(format!(
                "there is an interface {DEVICE} that is no dummy interface but {}: rename it, its name is needed for the addresses of services",
                link.kind.as_deref().unwrap_or("of another kind")
            ))),
        }
    }

    fn add_device(&mut self) -> Result<(), SyncError> {
        match self.route.add_dummy(DEVICE) {
            // The other family was faster.
            Err(error) if error.is_exists() => Ok(()),
            Err(error) if error.is_unsupported() => Err(SyncError::Unsupported(format!(
                "ipvs mode needs a kernel with dummy interfaces (module dummy): {error}"
            ))),
            result => result.map_err(sync_error),
        }
    }

    fn delete_device(&mut self) -> Result<(), SyncError> {
        match self.route.delete_link(DEVICE) {
            // The other family was faster.
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
            result => result.map_err(sync_error),
        }
    }

    fn addresses(&mut self) -> Result<Vec<Address>, SyncError> {
        Ok(self.route.addresses().map_err(sync_error)?.0)
    }

    fn interface_of(&mut self, ip: IpAddr) -> Result<Option<u32>, SyncError> {
        self.route.interface_of(ip).map_err(sync_error)
    }

    fn next_hops(&mut self) -> Result<BTreeSet<IpAddr>, SyncError> {
        let (mut hops, _) = self.route.next_hops().map_err(sync_error)?;
        let family = self.family;
        hops.retain(|ip| IpFamily::of(ip) == family);
        Ok(hops)
    }

    fn add_addresses(&mut self, index: u32, addresses: &[IpAddr]) -> Result<(), SyncError> {
        refused(&self.route.add_addresses(index, addresses).map_err(sync_error)?)
    }

    fn delete_addresses(&mut self, index: u32, addresses: &[IpAddr]) -> Result<(), SyncError> {
        refused(&self.route.delete_addresses(index, addresses).map_err(sync_error)?)
    }

    fn sets(&mut self) -> Result<Vec<Header>, SyncError> {
        let Some(ipset) = &mut self.ipset else { return Ok(Vec::new()) };
        ipset.headers().map_err(sync_error)
    }

    fn members(&mut self, set: &str) -> Result<Vec<Entry>, SyncError> {
        self.ipset()?.members(set).map_err(sync_error)
    }

    fn contains(&mut self, set: &str, entry: Entry) -> Result<Option<bool>, SyncError> {
        self.ipset()?.contains(set, entry).map_err(sync_error)
    }

    fn create_set(&mut self, set: &str, kind: SetType, max: u32) -> Result<(), SyncError> {
        let family = self.netlink_family();
        self.ipset()?.create(set, kind, family, max).map_err(|error| {
            let is_type_missing = |refusal: &Refusal| refusal.code == UNKNOWN_SET_TYPE;
            if error.refusals().any(is_type_missing) {
                return SyncError::Unsupported(error.to_string());
            }
            sync_error(error)
        })
    }

    fn destroy_set(&mut self, set: &str) -> Result<(), SyncError> {
        self.ipset()?.destroy(set).map_err(sync_error)
    }

    fn swap_sets(&mut self, set: &str, other: &str) -> Result<(), SyncError> {
        self.ipset()?.swap(set, other).map_err(sync_error)
    }

    fn add_entries(&mut self, set: &str, entries: &[Entry]) -> Result<(), SyncError> {
        self.ipset()?.add(set, entries).map_err(sync_error)
    }

    fn delete_entries(&mut self, set: &str, entries: &[Entry]) -> Result<(), SyncError> {
        self.ipset()?.delete(set, entries).map_err(sync_error)
    }

    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.rules()?.each_line(table, each)
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        self.rules()?.restore_text(&[input]).map_err(|failure| failure.error)
    }

    fn holds(&mut self, checks: &[Check]) -> Result<bool, SyncError> {
        self.rules()?.hold(checks)
    }

    fn find_rules(&mut self, table: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError> {
        self.rules()?.find_rules(table, rules)
    }

    fn prepare(&mut self, config: &Config) -> Result<(), SyncError> {
        for problem in sysctls::apply(config) {
            tracing::warn!("{problem}");
        }
        let (tcp, fin, udp) = (config.tcp_timeout, config.tcp_fin_timeout, config.udp_timeout);
        if tcp.is_none() && fin.is_none() && udp.is_none() {
            return Ok(());
        }
        self.ipvs()?.set_timeouts(tcp, fin, udp).map_err(sync_error)
    }
}
