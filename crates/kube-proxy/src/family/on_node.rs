//! What the node holds for one frontend; as JSON, a part of the answer of `/debug/explain`.

use kube_proxy_core as core;
use serde::{Deserialize, Serialize};

use super::check::{Difference, Repair};

/// How many objects are named; the number of all is beside them.
const NAMED: usize = 200;

/// What the node holds for one frontend, looked up when it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OnNode {
    /// What serves the frontend, or is in its way; first what is not as it should be. Of many the first.
    pub objects: Vec<NodeObject>,
    /// How many objects there are.
    pub total: usize,
    /// How many of them are missing, different or in the way.
    pub wrong: usize,
    /// What of it kube-proxy found changed and wrote again, oldest first, among the last repairs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<Repaired>,
    /// Why nothing could be looked up; absent when it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// An object on the node, in the words of the mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NodeObject {
    /// What it is: `element`, `chain`, `rule`, `virtual server` and the like.
    pub kind: String,
    /// Its name as it should be, with the place it is in.
    pub name: String,
    /// What the node has of it.
    pub state: ObjectState,
    /// What there is instead, where it is different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Why it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the node has of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ObjectState {
    /// What was written.
    AsWanted,
    /// Nothing.
    Missing,
    /// Something else under the same name.
    Different,
    /// An object that nothing asked for, and that changes what becomes of packets.
    InTheWay,
    /// It could not be told.
    Unknown,
}

/// Something that differed, and was written again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Repaired {
    /// When it was found (RFC 3339).
    pub at: String,
    /// What differed.
    pub difference: Difference,
}

impl ObjectState {
    /// Whether it is known not to be as it should be.
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Missing | Self::Different | Self::InTheWay)
    }
}

impl NodeObject {
    /// The words for it: `missing element …`.
    pub fn text(&self) -> String {
        let Self { kind, name, .. } = self;
        let said = |said: &Option<String>| said.clone().unwrap_or_default();
        match self.state {
            ObjectState::AsWanted => format!("{kind} {name}"),
            ObjectState::Missing => format!("missing {kind} {name}"),
            ObjectState::Different => {
                format!("different {kind} {name}, there is {}", said(&self.actual))
            }
            ObjectState::InTheWay => format!("in the way: {kind} {name}"),
            ObjectState::Unknown => format!("not known: {kind} {name}: {}", said(&self.why)),
        }
    }
}

impl From<core::KernelObject> for NodeObject {
    fn from(object: core::KernelObject) -> Self {
        let (kind, name) = (object.kind.to_owned(), object.name);
        let (mut actual, mut why) = (None, None);
        let state = match object.state {
            core::ObjectState::AsWanted => ObjectState::AsWanted,
            core::ObjectState::Missing => ObjectState::Missing,
            core::ObjectState::InTheWay => ObjectState::InTheWay,
            core::ObjectState::Different { actual: instead } => {
                actual = Some(instead);
                ObjectState::Different
            }
            core::ObjectState::Unknown { why: because } => {
                why = Some(because);
                ObjectState::Unknown
            }
            other => {
                why = Some(format!("{other:?}"));
                ObjectState::Unknown
            }
        };
        Self { kind, name, state, actual, why }
    }
}

impl OnNode {
    /// What was found, or why it was not, and what the last repairs have to do with it.
    pub(crate) fn new<'a>(
        query: &core::FrontendQuery,
        found: Result<Option<Vec<core::KernelObject>>, core::SyncError>,
        repairs: impl IntoIterator<Item = &'a Repair>,
    ) -> Self {
        let objects = match found {
            Ok(Some(objects)) => objects,
            Ok(None) => return Self::unknown("nothing has been written to the node yet"),
            Err(error) => return Self::unknown(error.to_string()),
        };
        let mut objects: Vec<_> = objects.into_iter().map(NodeObject::from).collect();
        let service = query.service.to_string();
        let mut repaired = Vec::new();
        for repair in repairs {
            let own = repair.differences.iter().filter(|difference| {
                difference.service.as_ref() == Some(&service)
                    || objects.iter().any(|object| is_about(difference, object))
            });
            repaired
                .extend(own.map(|own| Repaired { at: repair.at.clone(), difference: own.clone() }));
        }
        let (total, wrong) =
            (objects.len(), objects.iter().filter(|object| object.state.is_wrong()).count());
        objects.sort_by_key(|object| match object.state {
            state if state.is_wrong() => 0,
            ObjectState::Unknown => 1,
            _ => 2,
        });
        objects.truncate(NAMED);
        Self { objects, total, wrong, repaired, failure: None }
    }

    /// Nothing is known, for this reason.
    pub(crate) fn unknown(why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..Self::default() }
    }
}

/// Whether a difference that a comparison named is about this object. Either may say more of it than the other.
fn is_about(difference: &Difference, object: &NodeObject) -> bool {
    let begins = |text: &str, start: &str| {
        text.strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ',', ':']))
    };
    difference.kind == object.kind
        && (begins(&difference.name, &object.name) || begins(&object.name, &difference.name))
}

#[cfg(test)]
mod tests;
