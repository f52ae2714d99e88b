use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::layout::Table;
use crate::restore::Batch;
use crate::tests::model::Model;

/// Writes 32-bit keys as addresses, with rules that a reader of [`walk`] understands.
struct Numbers;

impl Dispatch<()> for Numbers {
    fn width(&self) -> u8 {
        32
    }

    fn top(&self) -> Vec<Prefix> {
        Prefix::ROOT.halves().to_vec()
    }

    fn chain(&self, prefix: Prefix) -> ChainName {
        if prefix == Prefix::ROOT {
            return ChainName::fixed("ROOT");
        }
        ChainName::new(&format!("{:08x}-{}", prefix.bits >> 96, prefix.length)).unwrap()
    }

    fn entry(&self, key: &Key, (): &(), rules: &mut Rules<'_>) {
        rules.rule().whole(&format!("entry {} {}", key.bits >> 96, key.port));
    }

    fn branch(&self, prefix: Prefix, from_root: bool, rules: &mut Rules<'_>) {
        let verb = if from_root { "-j" } else { "-g" };
        let (first, last) = (prefix.bits >> 96, prefix.last() >> 96);
        rules.rule().whole(&format!("range {first} {last} {verb} {}", self.chain(prefix)));
    }

    fn tail(&self, rules: &mut Rules<'_>) {
        rules.rule().whole("tail");
    }
}

fn key(number: u32, port: u16) -> Key {
    Key { bits: u128::from(number) << 96, protocol: Protocol::Tcp, port }
}

/// Renders into the model. Returns the chains that were written or deleted.
fn render(tree: &mut Tree<()>, model: &Model) -> usize {
    let mut batch = Batch::default();
    tree.render(&Numbers, batch.table(Table::Nat));
    let input = batch.pieces().concat();
    model.apply(&input).unwrap();
    input.lines().filter(|line| line.starts_with(':')).count()
}

/// Follows a packet from the root. Returns how many rules it meets until its own, or until the tail if there is none.
fn walk(model: &Model, key: Key) -> (bool, usize) {
    let mut chain = "ROOT".to_owned();
    let mut met = 0;
    let mut rules = model.chain("nat", &chain).unwrap().into_iter();
    let mut after = None;
    loop {
        let Some(rule) = rules.next() else {
            // Back to the root, behind the jump.
            rules = after.take().unwrap_or_else(|| panic!("{chain} leads nowhere"));
            continue;
        };
        met += 1;
        let words: Vec<&str> = rule.split(' ').collect();
        let number = key.bits >> 96;
        match words[..] {
            ["tail"] => return (false, met),
            ["entry", n, port] => {
                if n.parse() == Ok(number) && port.parse() == Ok(key.port) {
                    return (true, met);
                }
            }
            ["range", first, last, verb, to] => {
                if (first.parse().unwrap()..=last.parse::<u128>().unwrap()).contains(&number) {
                    let next = model.chain("nat", to).unwrap().into_iter();
                    let left = std::mem::replace(&mut rules, next);
                    if verb == "-j" {
                        after = Some(left);
                    }
                    to.clone_into(&mut chain);
                }
            }
            _ => panic!("{rule}"),
        }
    }
}

fn tree(numbers: impl IntoIterator<Item = u32>) -> (Tree<()>, Model) {
    let (mut tree, model) = (Tree::default(), Model::default());
    for number in numbers {
        tree.insert(key(number, 80), ());
    }
    render(&mut tree, &model);
    (tree, model)
}

#[test]
fn few_entries_are_a_plain_list() {
    let count = u32::try_from(LINEAR).unwrap();
    let (mut tree, model) = tree(0..count);
    assert_eq!(model.chain("nat", "ROOT").unwrap().len(), LINEAR + 1);
    tree.insert(key(count, 80), ());
    render(&mut tree, &model);
    assert!(model.chain("nat", "ROOT").unwrap().len() < 20);
}

/// 10,000 services spread over a /16, as by an allocator; and packed side by side.
#[test]
fn ten_thousand_entries_are_found_within_tens_of_rules() {
    let base = 0x0a60_0000;
    for (step, longest, mean) in [(6, 75, 40), (1, 75, 40)] {
        let (_, model) = tree((0..10_000).map(|n| base + n * step));
        let walks: Vec<usize> = (0..10_000)
            .map(|n| {
                let (found, met) = walk(&model, key(base + n * step, 80));
                assert!(found);
                met
            })
            .collect();
        let all: usize = walks.iter().sum();
        assert!(*walks.iter().max().unwrap() <= longest, "{:?}", walks.iter().max());
        assert!(all / walks.len() <= mean, "{}", all / walks.len());
        assert!(walk(&model, key(1, 80)).1 <= longest);
    }
}

#[test]
fn one_entry_more_or_less_touches_the_chains_on_its_path() {
    let (mut tree, model) = tree((0..10_000).map(|n| n * 6));
    for number in [1, 7, 30_001, 59_995, 60_001] {
        tree.insert(key(number, 80), ());
        assert!(render(&mut tree, &model) <= 8);
        tree.remove(key(number, 80));
        assert!(render(&mut tree, &model) <= 8);
    }
    assert_eq!(render(&mut tree, &model), 0);
}

#[test]
fn entries_that_cannot_be_told_apart_by_address_share_a_chain() {
    let (mut tree, model) = tree(0..2);
    for port in 0..1000 {
        tree.insert(key(7, port), ());
    }
    render(&mut tree, &model);
    assert_eq!(
        walk(&model, key(7, 999)),
        (true, model.chain("nat", "00000007-32").unwrap().len() + 3)
    );
}

fn chains(model: &Model) -> String {
    model.dump()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes and goes, the chains are those of a fresh tree, and every entry is found.
    #[test]
    fn history_leaves_no_trace(
        start in prop::collection::btree_set(0_u32..3000, 0..1500),
        steps in prop::collection::vec(prop::collection::btree_map(0_u32..3000, any::<bool>(), 0..300), 1..5),
        scale in prop::sample::select(vec![1, 17, 65_537, 1_400_000]),
    ) {
        let mut current: BTreeSet<u32> = start.iter().map(|n| n * scale).collect();
        let (mut tree, model) = tree(current.iter().copied());
        for step in steps {
            let step: BTreeMap<u32, bool> = step.into_iter().map(|(n, add)| (n * scale, add)).collect();
            for (number, add) in step {
                if add {
                    current.insert(number);
                    tree.insert(key(number, 80), ());
                } else {
                    current.remove(&number);
                    tree.remove(key(number, 80));
                }
            }
            render(&mut tree, &model);
            let (fresh, fresh_model) = self::tree(current.iter().copied());
            prop_assert_eq!(chains(&model), chains(&fresh_model));
            prop_assert_eq!(tree.rule_count(), fresh.rule_count());
        }
        for number in (0..3000).map(|n| n * scale) {
            prop_assert_eq!(walk(&model, key(number, 80)).0, current.contains(&number));
        }
    }
}
