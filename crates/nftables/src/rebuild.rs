//! What a full sync writes again although it seems right: objects for which the kernel refused what was to be written, again and again.

use kube_proxy_core::{IpFamily, Repair, TrafficPolicy};
use kube_proxy_netlink::nf_tables::Transaction;
use kube_proxy_netlink::writer::TooLong;

use crate::actual::Actual;
use crate::element::SetId;
use crate::layout::{set_name, set_spec};

/// An object to write again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// None: what is there and right stays.
    Nothing,
    /// A chain with its rules.
    Chain(String),
    /// A set or map with its elements.
    Set(SetId),
    /// The table with all that is in it.
    Table,
}

impl Rebuild {
    /// What a repair asks for.
    pub(crate) fn of(repair: Repair<'_>) -> Self {
        let Repair::Object(refusal) = repair else { return Self::Table };
        let set = || SetId::ALL.into_iter().find(|id| set_name(*id) == refusal.name);
        match refusal.kind {
            "chain" => Self::Chain(refusal.name.clone()),
            "set" => set().map_or(Self::Table, Self::Set),
            _ => Self::Table,
        }
    }

    /// The chains that have to lose their rules first: all of them, as any may refer to the set.
    pub(crate) fn emptied(&self, existing: &Actual) -> Vec<String> {
        match (self, existing) {
            (Self::Set(_), Actual::Table(content)) => content.chain_names(),
            _ => Vec::new(),
        }
    }

    /// What is on the node without what is written again.
    pub(crate) fn forget(&self, existing: Actual) -> Actual {
        let Actual::Table(mut content) = existing else { return existing };
        match self {
            Self::Nothing => {}
            Self::Chain(name) => content.forget_rules(Some(name)),
            Self::Set(id) => {
                content.forget_rules(None);
                content.sets.forget(*id);
            }
            Self::Table => return Actual::OtherLayout,
        }
        Actual::Table(content)
    }

    /// Whether some sessions are lost unless they are written again.
    pub(crate) fn ends_sessions(&self) -> bool {
        *self == Self::Table || TrafficPolicy::ALL.into_iter().any(|list| self.ends(list))
    }

    /// Whether those of one list are.
    pub(crate) fn ends(&self, list: TrafficPolicy) -> bool {
        *self == Self::Set(SetId::sessions(list))
    }

    /// Makes the set again, empty; nothing if it is another object. A table is made again whatever the reason.
    pub(crate) fn encode(
        &self,
        emptied: &[String],
        transaction: &mut Transaction,
        family: IpFamily,
    ) -> Result<(), TooLong> {
        let Self::Set(id) = self else { return Ok(()) };
        if emptied.is_empty() {
            // There is no table of ours, so it is made with all its sets.
            return Ok(());
        }
        emptied.iter().try_for_each(|chain| transaction.flush_chain(chain))?;
        transaction.delete_set(set_name(*id))?;
        transaction.add_set(&set_spec(*id, family))
    }
}
