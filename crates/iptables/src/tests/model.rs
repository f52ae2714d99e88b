//! iptables in memory: applies restore input, refuses what the kernel refuses, prints what `iptables-save` prints.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube_proxy_core::SyncError;
use kube_proxy_xtables::{Check, RestoreError, SHARED_FIREWALL, split_words};

use crate::kernel::Kernel;
use crate::layout::is_ours;
use crate::restore::Batch;
use crate::sessions::Ticks;

type Chains = BTreeMap<String, Vec<String>>;

/// A kernel to write into; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Model(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    tables: BTreeMap<String, Chains>,
    /// Every input so far.
    inputs: Vec<String>,
    saves: usize,
    /// A table that this kernel does not have.
    missing: Option<&'static str>,
    routes_localnet: bool,
    /// `route_localnet` cannot be written.
    keep_localnet: bool,
    /// How many inputs there had been when `route_localnet` was set.
    localnet_after: Option<usize>,
    /// Whether the objects are there in which rules count packets.
    counters: Counters,
    /// iptables lacks the match for them.
    no_match: bool,
    /// Chains that something which no listing shows leads to.
    in_use: Vec<String>,
    /// Chains for which any line is refused, and how many times still.
    refused: BTreeMap<String, usize>,
    /// Lists of clients, as their files show them.
    clients: BTreeMap<String, String>,
    /// Chains listed, rules in them, and rules asked for.
    asked: (usize, usize, usize),
}

/// What the counter of ticks shows.
pub(crate) const TICKS: usize = 10_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Counters {
    /// The kernel does not know them.
    #[default]
    Unknown,
    Missing,
    There,
}

const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

impl Model {
    /// Applies input as `iptables-restore --noflush` does.
    pub(crate) fn apply(&self, input: &str) -> Result<(), (usize, String)> {
        let inner = &mut *self.0.lock().unwrap();
        inner.inputs.push(input.to_owned());
        let mut table = String::new();
        let mut chains = Chains::new();
        for (index, line) in input.lines().enumerate() {
            let refuse = |why: &str| (index + 1, format!("{why}: {line}"));
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
                if inner.missing == Some(name) {
                    return Err(refuse("Table does not exist"));
                }
                chains = inner.tables.entry(table.clone()).or_default().clone();
                for name in BUILT_IN {
                    chains.entry(name.to_owned()).or_default();
                }
            } else if line == "COMMIT" {
                inner.tables.insert(table.clone(), chains.clone());
            } else {
                if line.strip_prefix("-X ").is_some_and(|it| inner.in_use.iter().any(|c| c == it)) {
                    return Err(refuse("Device or resource busy"));
                }
                if let Some(left) =
                    refused_chain(line).and_then(|chain| inner.refused.get_mut(chain))
                    && *left > 0
                {
                    *left -= 1;
                    return Err(refuse("Numerical result out of range"));
                }
                let counts = line.contains("-m nfacct");
                if counts && (inner.no_match || inner.counters != Counters::There) {
                    return Err(refuse("Couldn't load match `nfacct'"));
                }
                command(&mut chains, line).map_err(|why| refuse(&why))?;
            }
        }
        Ok(())
    }

    /// Everything, as `iptables-save` prints it.
    pub(crate) fn dump(&self) -> String {
        let inner = self.0.lock().unwrap();
        let mut text = String::new();
        for (table, chains) in &inner.tables {
            text.extend(["*", table, "\n"]);
            for line in lines(chains) {
                text += &line;
                text.push('\n');
            }
        }
        text
    }

    pub(crate) fn inputs(&self) -> Vec<String> {
        self.0.lock().unwrap().inputs.clone()
    }

    pub(crate) fn saves(&self) -> usize {
        self.0.lock().unwrap().saves
    }

    /// Chains listed one by one since the last call, rules in them, and rules asked for.
    pub(crate) fn take_asked(&self) -> (usize, usize, usize) {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// From now on there is no such table.
    pub(crate) fn lose(&self, table: &'static str) {
        let mut inner = self.0.lock().unwrap();
        inner.missing = Some(table);
        inner.tables.remove(table);
    }

    /// From now on something that no listing shows leads to these chains.
    pub(crate) fn lead_to(&self, chains: &[String]) {
        self.0.lock().unwrap().in_use = chains.to_vec();
    }

    /// Refuses the next inputs that have a line about this chain.
    pub(crate) fn refuse(&self, chain: &str, times: usize) {
        self.0.lock().unwrap().refused.insert(chain.to_owned(), times);
    }

    /// A list has this client and no other, who was last seen at this tick.
    pub(crate) fn remember(&self, list: &str, client: &str, tick: usize) {
        let text = format!("src={client} ttl: 64 last_seen: {tick} oldest_pkt: 1 {tick}\n");
        self.0.lock().unwrap().clients.insert(list.to_owned(), text);
    }

    /// This kernel has objects to count in, and iptables has the match for them or not.
    pub(crate) fn can_count(&self, has_match: bool) {
        let mut inner = self.0.lock().unwrap();
        inner.counters = Counters::Missing;
        inner.no_match = !has_match;
    }

    pub(crate) fn counters(&self) -> Counters {
        self.0.lock().unwrap().counters
    }

    pub(crate) fn routes_localnet(&self) -> bool {
        self.0.lock().unwrap().routes_localnet
    }

    /// Whether turning `route_localnet` off fails.
    pub(crate) fn keep_localnet(&self, keep: bool) {
        self.0.lock().unwrap().keep_localnet = keep;
    }

    /// The inputs applied before `route_localnet` was set, if it was.
    pub(crate) fn inputs_before_localnet(&self) -> Option<Vec<String>> {
        let inner = self.0.lock().unwrap();
        Some(inner.inputs[..inner.localnet_after?].to_vec())
    }

    /// The rules of one chain.
    pub(crate) fn chain(&self, table: &str, chain: &str) -> Option<Vec<String>> {
        let inner = self.0.lock().unwrap();
        inner.tables.get(table)?.get(chain).cloned()
    }
}

/// The chain that a line is about.
fn refused_chain(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    let first = words.next()?;
    first.strip_prefix(':').or_else(|| words.next())
}

fn lines(chains: &Chains) -> Vec<String> {
    let declared = chains.keys().map(|chain| format!(":{chain} - [0:0]"));
    let rules = chains
        .iter()
        .flat_map(|(chain, rules)| rules.iter().map(move |rule| format!("-A {chain} {rule}")));
    declared.chain(rules).collect()
}

fn command(chains: &mut Chains, line: &str) -> Result<(), String> {
    if let Some(declared) = line.strip_prefix(':') {
        let chain = declared.split(' ').next().unwrap();
        chains.insert(chain.to_owned(), Vec::new());
        return Ok(());
    }
    let (verb, rest) = line.split_once(' ').unwrap();
    let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    if verb == "-X" {
        return delete(chains, chain);
    }
    if let Some(target) = target(rule)
        && target.starts_with("KUBE-")
        && !chains.contains_key(&target)
    {
        return Err(format!("no chain {target}"));
    }
    let words = split_words(rule);
    let seconds = words.iter().position(|word| word == "--seconds");
    if let Some(at) = seconds
        && words[at + 1].parse::<u32>().is_err()
    {
        return Err("bad value for --seconds".to_owned());
    }
    let rules = chains.get_mut(chain).ok_or("no such chain")?;
    match verb {
        "-A" => rules.push(rule.to_owned()),
        "-I" => rules.insert(0, rule.strip_prefix("1 ").unwrap().to_owned()),
        "-D" => {
            let at = rules.iter().position(|known| known == rule);
            rules.remove(at.ok_or("no such rule")?);
        }
        _ => return Err("unknown command".to_owned()),
    }
    Ok(())
}

fn delete(chains: &mut Chains, chain: &str) -> Result<(), String> {
    let in_use = chains.values().flatten().any(|rule| target(rule).as_deref() == Some(chain));
    match chains.get(chain) {
        None => Err("no such chain".to_owned()),
        Some(rules) if !rules.is_empty() => Err("chain is not empty".to_owned()),
        Some(_) if in_use => Err("chain is in use".to_owned()),
        Some(_) => {
            chains.remove(chain);
            Ok(())
        }
    }
}

fn target(rule: &str) -> Option<String> {
    let words = split_words(rule);
    let at = words.iter().rposition(|word| word == "-j" || word == "-g")?;
    words.get(at + 1).cloned()
}

impl Kernel for Model {
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        let mut inner = self.0.lock().unwrap();
        inner.saves += 1;
        if inner.missing == Some(table) {
            return Err(SyncError::NotFound("Table does not exist".to_owned()));
        }
        for line in inner.tables.get(table).iter().flat_map(|t| lines(t)) {
            each(&line);
        }
        Ok(())
    }

    fn may_hold_ours(&self, table: &str) -> bool {
        let inner = self.0.lock().unwrap();
        let is_ours = |chain: &String| is_ours(table, chain) || chain == SHARED_FIREWALL;
        inner.tables.get(table).is_some_and(|chains| chains.keys().any(is_ours))
    }

    fn has_chain(&self, table: &str, chain: &str) -> bool {
        self.chain(table, chain).is_some()
    }

    fn restore(&self, batch: &Batch) -> Result<(), RestoreError> {
        self.apply(&batch.pieces().concat()).map_err(|(line, why)| RestoreError {
            error: SyncError::Refused(format!("line {line} failed: {why}")),
            line: Some(line),
            too_deep: false,
        })
    }

    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError> {
        let inner = self.0.lock().unwrap();
        if checks.iter().any(|check| inner.missing == Some(check.table())) {
            return Err(SyncError::NotFound("Table does not exist".to_owned()));
        }
        let rules = |table: &str, chain: &str| inner.tables.get(table)?.get(chain);
        Ok(checks.iter().all(|check| match check {
            Check::Chain { table, chain } => rules(table, chain).is_some(),
            Check::Rule { table, chain, rule } => {
                rules(table, chain).is_some_and(|rules| rules.contains(rule))
            }
        }))
    }

    fn list_chains(
        &self,
        table: &str,
        chains: &[&str],
    ) -> Result<Vec<Option<Vec<String>>>, SyncError> {
        let listed: Vec<_> = chains.iter().map(|chain| self.chain(table, chain)).collect();
        let mut inner = self.0.lock().unwrap();
        inner.asked.0 += chains.len();
        inner.asked.1 += listed.iter().flatten().map(Vec::len).sum::<usize>();
        Ok(listed)
    }

    fn find_rules(&self, table: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError> {
        self.0.lock().unwrap().asked.2 += rules.len();
        let has = |(chain, rule): &(&str, &str)| {
            self.chain(table, chain).is_some_and(|rules| rules.iter().any(|known| known == rule))
        };
        Ok(rules.iter().map(has).collect())
    }

    fn route_localnet(&self) -> Result<(), SyncError> {
        let mut inner = self.0.lock().unwrap();
        let inputs = inner.inputs.len();
        inner.routes_localnet = true;
        inner.localnet_after.get_or_insert(inputs);
        Ok(())
    }

    fn unroute_localnet(&self) -> Result<(), SyncError> {
        let mut inner = self.0.lock().unwrap();
        if inner.keep_localnet {
            return Err(SyncError::Refused("route_localnet is read-only".to_owned()));
        }
        inner.routes_localnet = false;
        Ok(())
    }

    fn create_counters(&self) -> Result<(), SyncError> {
        let mut inner = self.0.lock().unwrap();
        if inner.counters == Counters::Unknown {
            return Err(SyncError::Refused("Invalid argument".to_owned()));
        }
        inner.counters = Counters::There;
        Ok(())
    }

    fn clients(&self, list: &str) -> Result<Option<String>, SyncError> {
        Ok(self.0.lock().unwrap().clients.get(list).cloned())
    }

    fn ticks(&self) -> Result<Ticks, SyncError> {
        Ok(Ticks { now: TICKS, length: Duration::from_millis(10) })
    }
}
