//! What is on the node, as facts that do not depend on the way it came about.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use serde_json::{Map, Value};

use crate::world::{Mode, World};

/// Everything of ours, sorted; a fact that holds twice is there twice.
pub(super) fn read(world: &World, mode: Mode) -> anyhow::Result<Vec<String>> {
    let mut facts = Vec::new();
    for family in IpFamily::BOTH {
        let own = if mode == Mode::Nftables {
            let text =
                world.on_node("nft", &["-j", "list", "table", table(family), "kube-proxy"])?;
            of_table(&serde_json::from_str(&text)?).with_context(|| family.to_string())?
        } else {
            let rules = world.rules(mode, family)?.into_iter();
            rules
                .map(|rule| if mode == Mode::Userspace { without_port(&rule) } else { rule })
                .collect()
        };
        facts.extend(own.into_iter().map(|fact| format!("{family} {fact}")));
    }
    if mode == Mode::Ipvs {
        facts.extend(of_ipvs(world)?);
    }
    facts.sort_unstable();
    Ok(facts)
}

/// A rule of the userspace mode without the port to which it leads: another process has others.
fn without_port(rule: &str) -> String {
    // Rules about what was translated, or was not, name the port too.
    let translated = rule.contains("--ctstate DNAT ").then_some("--dport ");
    for flag in ["--to-ports ", "--to-destination "].into_iter().chain(translated) {
        if let Some((before, after)) = rule.split_once(flag) {
            let (to, rest) = after.split_once(' ').unwrap_or((after, ""));
            let host = to.rsplit_once(':').map_or("", |(host, _)| host);
            return format!("{before}{flag}{host}:PORT {rest}");
        }
    }
    rule.to_owned()
}

/// The bit of packet marks that asks for masquerading, by default (`iptables.masqueradeBit`).
const MASQUERADE: u32 = 1 << 14;

/// Virtual servers with their destinations, sets with their entries, and the addresses of the interface.
fn of_ipvs(world: &World) -> anyhow::Result<Vec<String>> {
    let mut facts = Vec::new();
    for (program, arguments) in [
        ("ipvsadm", &["--save", "--numeric"][..]),
        ("ipset", &["save"]),
        ("ip", &["-oneline", "address", "show", "dev", "kube-ipvs0"]),
    ] {
        let text = world.on_node(program, arguments)?;
        let lines = text.lines().map(|line| match program {
            // The number of the interface, and how long addresses last.
            "ip" => line.split_whitespace().skip(1).take(4).collect::<Vec<_>>().join(" "),
            "ipset" => without_mark(line, "skbmark "),
            _ => without_mark(line, "-f "),
        });
        // What drains is there for a while after it went, on a slow machine still when all is compared.
        let lines = lines.filter(|line| program != "ipvsadm" || !line.ends_with(" -w 0"));
        facts.extend(lines.map(|line| format!("{program}: {line}")));
    }
    Ok(facts)
}

/// Which mark a service port has depends on what came before it; whether it asks for masquerading as well does not.
fn without_mark(line: &str, word: &str) -> String {
    let Some((before, after)) = line.split_once(word) else { return line.to_owned() };
    let (mark, rest) = after.split_once(' ').unwrap_or((after, ""));
    let masquerades = mark.parse::<u32>().is_ok_and(|mark| mark & MASQUERADE != 0);
    format!("{before}{word}{} {rest}", if masquerades { "MARK+masquerade" } else { "MARK" })
}

fn table(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}

/// Takes everything of ours away.
pub(super) fn wipe(world: &World, mode: Mode) -> anyhow::Result<()> {
    if mode != Mode::Nftables {
        return crate::life::remove_everything(world);
    }
    for family in IpFamily::BOTH {
        world.on_node("nft", &["delete", "table", table(family), "kube-proxy"])?;
    }
    Ok(())
}

/// What only one of the two has.
pub(super) fn differences(after: &[String], fresh: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for (facts, sign) in [(after, 1), (fresh, -1)] {
        for fact in facts {
            *counts.entry(fact).or_default() += sign;
        }
    }
    let differing = counts.into_iter().filter(|(_, count)| *count != 0);
    differing
        .map(|(fact, count)| format!("{} {fact}", if count > 0 { "too much:" } else { "missing:" }))
        .collect()
}

/// The facts of a table that `nft -j` lists: without handles, counters and times, endpoints of a frontend without their order,
/// and without chains that nothing leads to, which may stay for the next service that needs them.
fn of_table(listing: &Value) -> anyhow::Result<Vec<String>> {
    let mut facts = Vec::new();
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut chains: BTreeMap<String, Value> = BTreeMap::new();
    for object in listing["nftables"].as_array().context("a listing")? {
        let mut object = object.clone();
        forget(&mut object);
        if let Some(rule) = object.get("rule") {
            let chain = rule["chain"].as_str().context("a rule is in a chain")?.to_owned();
            rules.entry(chain).or_default().push(rule.to_string());
        } else if let Some(chain) = object.get("chain") {
            chains.insert(chain["name"].as_str().context("a name")?.to_owned(), chain.clone());
        } else if let Some(kind) =
            ["map", "set"].into_iter().find(|kind| object.get(kind).is_some())
        {
            of_set(&mut object[kind], &mut facts)?;
        } else if object.get("table").is_some() {
            facts.push(object.to_string());
        }
    }
    for name in reachable(&chains, &rules, &facts) {
        facts.push(format!("chain {}", chains[&name]));
        for (index, rule) in rules.get(&name).into_iter().flatten().enumerate() {
            facts.push(format!("rule {index} of {name}: {rule}"));
        }
    }
    Ok(facts)
}

/// Base chains, and what something that is reached leads to.
fn reachable(
    chains: &BTreeMap<String, Value>,
    rules: &BTreeMap<String, Vec<String>>,
    elements: &[String],
) -> BTreeSet<String> {
    let base = chains.iter().filter(|(_, chain)| chain.get("hook").is_some());
    let mut waiting: Vec<String> = base.map(|(name, _)| name.clone()).collect();
    let mut found = BTreeSet::new();
    let named_in = |text: &str| -> Vec<String> {
        let quoted = text.split('"').map(str::to_owned);
        quoted.filter(|word| chains.contains_key(word)).collect()
    };
    waiting.extend(elements.iter().flat_map(|element| named_in(element)));
    while let Some(chain) = waiting.pop() {
        let rules = rules.get(&chain).into_iter().flatten();
        if found.insert(chain.clone()) {
            waiting.extend(rules.flat_map(|rule| named_in(rule)));
        }
    }
    found
}

/// Drops what differs from time to time, and what counts.
fn forget(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Object(fields) => {
            for volatile in ["handle", "counter", "expires"] {
                fields.remove(volatile);
            }
            fields.values_mut().for_each(forget);
        }
        _ => {}
    }
}

fn of_set(set: &mut Value, facts: &mut Vec<String>) -> anyhow::Result<()> {
    let fields = set.as_object_mut().context("a set")?;
    let name = fields.get("name").and_then(Value::as_str).context("a name")?.to_owned();
    let elements = take_elements(fields);
    facts.push(format!("set {}", Value::Object(fields.clone())));
    // Slots come last in the key, and which endpoint has which does not matter.
    let by_slot = name.ends_with("-endpoints") || name.ends_with("-affinity");
    let mut slots: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for mut element in elements {
        if by_slot {
            let key = key_of(&mut element).and_then(Value::as_array_mut);
            let key = key.with_context(|| format!("the key of an element of {name}"))?;
            let slot = key.pop().and_then(|slot| slot.as_u64()).context("a slot")?;
            slots.entry(Value::Array(key.clone()).to_string()).or_default().push(slot);
        }
        facts.push(format!("{name}: {element}"));
    }
    for (key, mut numbers) in slots {
        numbers.sort_unstable();
        let holes = (0..).zip(&numbers).any(|(number, slot)| number != *slot);
        ensure!(!holes, "{name}: the slots of {key} are {numbers:?}");
    }
    Ok(())
}

fn take_elements(set: &mut Map<String, Value>) -> Vec<Value> {
    match set.remove("elem") {
        Some(Value::Array(elements)) => elements,
        _ => Vec::new(),
    }
}

/// The fields of the key in `[key, value]`, where the key may be wrapped to have a comment.
fn key_of(element: &mut Value) -> Option<&mut Value> {
    let key = element.get_mut(0)?;
    let is_wrapped = key.get("elem").is_some();
    let key = if is_wrapped { key.get_mut("elem")?.get_mut("val")? } else { key };
    key.get_mut("concat")
}
