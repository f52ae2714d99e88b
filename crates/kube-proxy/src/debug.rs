//! What a running proxy says about its Services: the types of the JSON under `/debug/`, the pages that answer with them,
//! and a page that shows them to people.
//!
//! The types are shared by the server, the commands and other readers of the JSON. Fields are added, not renamed or removed:
//! a reader ignores those that it does not know.
//! Nothing is kept for these pages. Each question is put to the threads of the families, which answer from what they work with.

mod change;
mod changes;
mod check;
mod destination;
mod endpoints;
mod explain;
mod explanation;
pub(crate) mod findings;
mod names;
mod offline;
mod pages;
mod services;
mod site;
mod time;
mod view;

pub use crate::family::check::{Deviation, Difference, FamilyCheck, Repair};
pub use change::{Change, ChangeKind};
pub use changes::Changes;
pub use check::Check;
pub use endpoints::{Endpoint, Selection, UnusedReason};
pub use explanation::{
    Connections, EndpointUse, Explanation, Masquerade, Nearest, Path, Reason, Session, SourceKind,
    Verdict,
};
pub use findings::{Finding, Report, Severity};
pub use names::{FrontendKind, Policy, ServicePortId};
pub(crate) use offline::explain_offline;
pub use pages::{DebugPages, Facts, Silence};
pub use services::{Counters, Family, FastPath, Frontend, ServicePort, Services};

/// Whether these can be read as a destination and a source.
#[cfg(feature = "fuzzing")]
pub(crate) fn reads(to: &str, from: &str) -> bool {
    let destination = to.parse::<destination::Destination>().is_ok();
    destination && from.parse::<destination::Origin>().is_ok()
}
