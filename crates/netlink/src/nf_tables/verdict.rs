//! Verdicts, in rules and as data of verdict maps.

use std::borrow::Cow;
use std::fmt;

use super::constants::data;
use crate::attr::{Attribute, Malformed};
use crate::writer::Writer;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict<'a> {
    /// It is dropped.
    Drop,
    /// It passes this hook's chain.
    Accept,
    /// On with the next rule.
    Continue,
    /// Back to the chain that jumped here.
    Return,
    /// On in a chain, then back here.
    Jump(Cow<'a, str>),
    /// On in a chain, and not back.
    Goto(Cow<'a, str>),
    /// Any other code of the kernel.
    Other(u32),
}

impl Verdict<'_> {
    fn code(&self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Continue => (-1_i32).cast_unsigned(),
            Self::Jump(_) => (-3_i32).cast_unsigned(),
            Self::Goto(_) => (-4_i32).cast_unsigned(),
            Self::Return => (-5_i32).cast_unsigned(),
            Self::Other(code) => *code,
        }
    }
}

/// As `nft` writes it.
impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Other(code) => write!(f, "verdict {code:#x}"),
        }
    }
}

/// Writes data of the verdict kind.
pub(super) fn write_verdict(writer: &mut Writer, verdict: &Verdict<'_>) {
    writer.nest(data::VERDICT, |writer| {
        writer.u32_be(data::VERDICT_CODE, verdict.code());
        if let Verdict::Jump(chain) | Verdict::Goto(chain) = verdict {
            writer.text(data::VERDICT_CHAIN, chain);
        }
    });
}

/// Reads the inside of a verdict attribute.
pub(super) fn read_verdict<'a>(verdict: &Attribute<'a>) -> Result<Verdict<'a>, Malformed> {
    let mut code = None;
    let mut chain = None;
    for attribute in verdict.nested() {
        let attribute = attribute?;
        match attribute.kind {
            data::VERDICT_CODE => code = Some(attribute.u32_be()?),
            data::VERDICT_CHAIN => chain = Some(attribute.text()),
            _ => {}
        }
    }
    let code = code.ok_or(Malformed::Missing { what: "a verdict code" })?;
    Ok(match (code.cast_signed(), chain) {
        (0, _) => Verdict::Drop,
        (1, _) => Verdict::Accept,
        (-1, _) => Verdict::Continue,
        (-5, _) => Verdict::Return,
        (-3, Some(chain)) => Verdict::Jump(chain),
        (-4, Some(chain)) => Verdict::Goto(chain),
        _ => Verdict::Other(code),
    })
}
