//! Rules as their writer left them, read as far as that is possible without knowing every expression.

use std::borrow::Cow;

use super::constants::{data, expression, operation, rule};
use super::verdict::{Verdict, read_verdict};
use super::{NfTables, request, user_data};
use crate::Errno;
use crate::attr::{Attribute, Malformed};
use crate::error::Error;
use crate::message::Message;
use crate::netfilter;
use crate::socket::DumpEnd;

/// `NFTA_MATCH_*` and `NFTA_TARGET_*`, which agree.
const EXTENSION_NAME: u16 = 1;
const EXTENSION_REVISION: u16 = 2;
const EXTENSION_INFO: u16 = 3;
/// `NFTA_IMMEDIATE_DATA`.
const IMMEDIATE_DATA: u16 = 2;

/// A rule of anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignRule {
    /// Its chain.
    pub chain: String,
    /// Its comment, where that is not a match.
    pub comment: Option<String>,
    /// Its matches of xtables, in their order.
    pub matches: Vec<Extension>,
    /// The chain that it leads to, if it does.
    pub leads_to: Option<String>,
    /// Whether it does not come back from there.
    pub goes: bool,
    /// Whether there is anything in it but what stands here and counters.
    pub has_more: bool,
}

/// A match of xtables within a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Such as `conntrack`.
    pub name: String,
    /// Which layout `info` has.
    pub revision: u32,
    /// What it matches, as the kernel's structure.
    pub info: Vec<u8>,
}

impl NfTables {
    /// Every rule of a table, in the order of each chain, of any origin.
    pub fn foreign_rules(&mut self, table: &str) -> Result<Vec<ForeignRule>, Error> {
        let object = format_args!("list rules of table {table}");
        let family = self.family.number();
        let decode = |message: &Message<'_>| read(message, table);
        let body = |writer: &mut crate::writer::Writer| {
            netfilter::header(writer, family, 0);
            writer.text(rule::TABLE, table);
        };
        let all = self.socket.dump_all(request(operation::GET_RULE, &object), body, decode);
        match all {
            Ok((all, DumpEnd::Complete)) => Ok(all),
            Ok((_, DumpEnd::Partial)) => {
                Err(Error::Receive { object: object.to_string(), errno: Errno::EINTR })
            }
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn read(message: &Message<'_>, table: &str) -> Result<Option<ForeignRule>, Malformed> {
    let mut read = ForeignRule::default();
    for attribute in message.attributes(netfilter::HEADER_LEN)? {
        let attribute = attribute?;
        match attribute.kind {
            rule::TABLE if attribute.text() != table => return Ok(None),
            rule::CHAIN => read.chain = attribute.text().into_owned(),
            rule::USER_DATA => {
                read.comment = user_data::read_comment(attribute.value).map(ToOwned::to_owned);
            }
            rule::EXPRESSIONS => {
                for item in attribute.nested() {
                    read.expression(&item?)?;
                }
            }
            _ => {}
        }
    }
    Ok(Some(read))
}

impl ForeignRule {
    fn expression(&mut self, item: &Attribute<'_>) -> Result<(), Malformed> {
        let (mut name, mut inside) = (Cow::Borrowed(""), None);
        for attribute in item.nested() {
            let attribute = attribute?;
            match attribute.kind {
                expression::NAME => name = attribute.text(),
                expression::DATA => inside = Some(attribute),
                _ => {}
            }
        }
        match (&*name, inside) {
            ("counter", _) => {}
            ("match", Some(inside)) => self.matches.push(extension(&inside)?),
            ("immediate", Some(inside)) => match verdict(&inside)? {
                Some(Verdict::Jump(chain)) => self.leads_to = Some(chain.into_owned()),
                Some(Verdict::Goto(chain)) => {
                    self.leads_to = Some(chain.into_owned());
                    self.goes = true;
                }
                _ => self.has_more = true,
            },
            _ => self.has_more = true,
        }
        Ok(())
    }
}

fn extension(inside: &Attribute<'_>) -> Result<Extension, Malformed> {
    let mut read = Extension::default();
    for attribute in inside.nested() {
        let attribute = attribute?;
        match attribute.kind {
            EXTENSION_NAME => read.name = attribute.text().into_owned(),
            EXTENSION_REVISION => read.revision = attribute.u32_be()?,
            EXTENSION_INFO => read.info = attribute.value.to_vec(),
            _ => {}
        }
    }
    Ok(read)
}

fn verdict<'a>(inside: &Attribute<'a>) -> Result<Option<Verdict<'a>>, Malformed> {
    for attribute in inside.nested() {
        let attribute = attribute?;
        if attribute.kind != IMMEDIATE_DATA {
            continue;
        }
        for inner in attribute.nested() {
            let inner = inner?;
            if inner.kind == data::VERDICT {
                return read_verdict(&inner).map(Some);
            }
        }
    }
    Ok(None)
}
