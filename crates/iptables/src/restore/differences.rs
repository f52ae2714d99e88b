//! What a batch would write, as a report of what differs on the node.

use kube_proxy_core::{Deviation, Difference};

use super::{Batch, Part, TableText};
use crate::layout::Table;
use crate::names::ChainName;

impl Batch {
    /// Each chain and rule that is not on the node as it is wanted.
    pub(crate) fn differences(&self) -> Vec<Difference> {
        self.tables().into_iter().flat_map(|(table, text)| of_table(table, text)).collect()
    }
}

fn of_table(table: Table, text: &TableText) -> Vec<Difference> {
    let mut differences = Vec::new();
    let table = table.name();
    for (index, part) in text.parts.iter().enumerate() {
        for (number, line) in part.text.lines().enumerate() {
            if index == Part::Deleted as usize || index == Part::Emptied as usize {
                let chain = line.strip_prefix("-X ");
                differences.extend(chain.map(|chain| {
                    Difference::new("chain", format!("{table} {chain}"), Deviation::Unexpected)
                }));
                continue;
            }
            if let Some(rule) = line.strip_prefix("-I ").or_else(|| appended(index, line)) {
                let name = format!("{table} -A {}", rule.replacen(" 1 ", " ", 1));
                differences.push(Difference::new("rule", name, Deviation::Missing));
            } else if let Some(rule) = line.strip_prefix("-D ") {
                let name = format!("{table} -A {rule}");
                differences.push(Difference::new("rule", name, Deviation::Unexpected));
            } else if let Some(chain) = declared(line) {
                let service = part.owner_of_line(number).or_else(|| part.owner_of_line(number + 1));
                let difference = match text.held.get(&chain) {
                    Some(held) => {
                        let wanted = wanted_rules(&part.text, number);
                        let name = if held.rules as usize == wanted {
                            format!("{table} {chain}: another rule among its {wanted}")
                        } else {
                            format!("{table} {chain}: {} rules instead of {wanted}", held.rules)
                        };
                        Difference::new("chain", name, Deviation::Different)
                    }
                    None => {
                        Difference::new("chain", format!("{table} {chain}"), Deviation::Missing)
                    }
                };
                let service = service.map(|name| (*name).clone());
                differences.push(Difference { service, ..difference });
            }
        }
    }
    differences
}

/// A rule put into a chain that is not ours; those of our chains follow their declaration and are part of it.
fn appended(part: usize, line: &str) -> Option<&str> {
    line.strip_prefix("-A ").filter(|_| part == Part::Hooks as usize).filter(|rule| {
        let chain = rule.split(' ').next().unwrap_or_default();
        chain == kube_proxy_xtables::SHARED_FIREWALL
    })
}

fn declared(line: &str) -> Option<ChainName> {
    ChainName::new(line.strip_prefix(':')?.split(' ').next()?)
}

/// How many rules follow a declaration.
fn wanted_rules(text: &str, declaration: usize) -> usize {
    text.lines().skip(declaration + 1).take_while(|line| line.starts_with("-A ")).count()
}
