//! From the bytes of a message that the kernel refused to words: what was to be done to which object.

use std::fmt::Write as _;

use super::constants::{chain, element_list, flowtable, operation, rule, set, table};
use super::element::Element;
use crate::Family;
use crate::attr::{Attributes, HEADER_LEN};
use crate::error::{Described, Target};
use crate::message::{HEADER_LEN as MESSAGE_HEADER_LEN, Message};
use crate::netfilter;

/// Names the object of a message; `place` is where in it the kernel points at, in bytes from its header.
pub(super) fn describe(message: &Message<'_>, place: Option<usize>) -> Described {
    Described { object: words(message, place), target: target(message) }
}

fn target(message: &Message<'_>) -> Option<Target> {
    let [_, operation] = message.kind.to_be_bytes();
    let (kind, attribute) = match operation {
        operation::NEW_TABLE | operation::DELETE_TABLE => ("table", table::NAME),
        operation::NEW_CHAIN | operation::DELETE_CHAIN => ("chain", chain::NAME),
        operation::NEW_RULE | operation::DELETE_RULE => ("chain", rule::CHAIN),
        operation::NEW_SET | operation::DELETE_SET => ("set", set::NAME),
        operation::NEW_ELEMENT | operation::DELETE_ELEMENT => ("set", element_list::SET),
        operation::NEW_FLOWTABLE | operation::DELETE_FLOWTABLE => ("flowtable", flowtable::NAME),
        _ => return None,
    };
    let attributes = message.attributes(netfilter::HEADER_LEN).ok()?;
    let name = attributes.find(attribute).ok()??.text().into_owned();
    Some(Target { kind, name })
}

fn words(message: &Message<'_>, place: Option<usize>) -> String {
    let [_, operation] = message.kind.to_be_bytes();
    let text = |kind| {
        let attributes = message.attributes(netfilter::HEADER_LEN).ok()?;
        Some(attributes.find(kind).ok()??.text())
    };
    let family = netfilter::read_header(message).ok();
    let family = match family.and_then(|(number, _)| Family::from_number(number)) {
        Some(Family::V4) => "ip ",
        Some(Family::V6) => "ip6 ",
        None => "",
    };
    let in_table = |kind| format!("in table {family}{}", text(kind).unwrap_or("?".into()));
    let named = |what: &str, name, table| {
        format!("{what} {} {}", text(name).unwrap_or("?".into()), in_table(table))
    };
    match operation {
        operation::NEW_TABLE => {
            format!("add table {family}{}", text(table::NAME).unwrap_or("?".into()))
        }
        operation::DELETE_TABLE => {
            format!("delete table {family}{}", text(table::NAME).unwrap_or("?".into()))
        }
        operation::NEW_CHAIN => named("add chain", chain::NAME, chain::TABLE),
        operation::DELETE_CHAIN => named("delete chain", chain::NAME, chain::TABLE),
        operation::NEW_RULE => named("add rule to chain", rule::CHAIN, rule::TABLE),
        operation::DELETE_RULE => named("delete rules of chain", rule::CHAIN, rule::TABLE),
        operation::NEW_SET => named("add set", set::NAME, set::TABLE),
        operation::DELETE_SET => named("delete set", set::NAME, set::TABLE),
        operation::NEW_FLOWTABLE => named("add flowtable", flowtable::NAME, flowtable::TABLE),
        operation::DELETE_FLOWTABLE => named("delete flowtable", flowtable::NAME, flowtable::TABLE),
        operation::NEW_ELEMENT | operation::DELETE_ELEMENT => {
            let (what, from) = match operation {
                operation::NEW_ELEMENT => ("add", "to"),
                _ => ("delete", "from"),
            };
            let which = place
                .and_then(|place| element_at(message, place))
                .unwrap_or_else(|| "elements".to_owned());
            named(&format!("{what} {which} {from} set"), element_list::SET, element_list::TABLE)
        }
        other => format!("nf_tables operation {other}"),
    }
}

/// The element at a place in the message: its comment, or its key in hexadecimal.
fn element_at(message: &Message<'_>, place: usize) -> Option<String> {
    let place = place.checked_sub(MESSAGE_HEADER_LEN)?;
    let attributes = message.attributes(netfilter::HEADER_LEN).ok()?;
    let list = attributes.find(element_list::ELEMENTS).ok()??;
    let mut start = offset_in(message.payload, list.value)?;
    for item in Attributes::new(list.value) {
        let item = item.ok()?;
        let end = start + HEADER_LEN + item.value.len();
        if place < end.next_multiple_of(4) {
            let element = Element::read(&item).ok()?;
            let key = hexadecimal(element.key);
            let kind = if element.interval_end { "interval end" } else { "element" };
            return Some(match element.comment {
                Some(comment) => format!("{kind} {key} ({comment})"),
                None => format!("{kind} {key}"),
            });
        }
        start = end.next_multiple_of(4);
    }
    None
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &[u8], part: &[u8]) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (offset <= whole.len()).then_some(offset)
}
