//! What a family found when it compared the node with what it wrote; as JSON, a part of the answer of `/debug/check`.

use std::time::SystemTime;

use kube_proxy_core as core;
use serde::{Deserialize, Serialize};

/// How many differences of a family are named; the number of all is beside them.
const NAMED: usize = 200;

/// One IP family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FamilyCheck {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Whether there was a sync to compare with, and the node could be read.
    pub compared: bool,
    /// Why it could not be read; absent when it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What differs; of many the first.
    pub differences: Vec<Difference>,
    /// How many objects differ.
    pub total: usize,
    /// The last repairs of what another program had changed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
}

/// One object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Difference {
    /// What the object is: `element`, `chain`, `rule`, `virtual server` and the like.
    pub kind: String,
    /// Its name, with the place it is in.
    pub name: String,
    /// How it differs.
    pub deviation: Deviation,
    /// The service port it is there for, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// How an object differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Deviation {
    /// It is not there.
    Missing,
    /// It is there and should not be.
    Unexpected,
    /// It is there with other content.
    Different,
}

/// Damage that was found and repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Repair {
    /// When it was found (RFC 3339).
    pub at: String,
    /// What differed; empty in a large cluster, where the repair did not wait for the comparison.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many objects differed.
    pub total: usize,
}

impl Difference {
    /// The words for it: `missing element …`.
    pub fn text(&self) -> String {
        let deviation = match self.deviation {
            Deviation::Missing => "missing",
            Deviation::Unexpected => "unexpected",
            Deviation::Different => "different",
        };
        let service = self.service.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{deviation} {} {}{service}", self.kind, self.name)
    }
}

impl From<&core::Difference> for Difference {
    fn from(difference: &core::Difference) -> Self {
        Self {
            kind: difference.kind.to_owned(),
            name: difference.name.clone(),
            deviation: match difference.deviation {
                core::Deviation::Missing => Deviation::Missing,
                core::Deviation::Unexpected => Deviation::Unexpected,
                core::Deviation::Different => Deviation::Different,
            },
            service: difference.service.as_ref().map(ToString::to_string),
        }
    }
}

impl FamilyCheck {
    /// What came of a comparison; `None` says that there was nothing to compare with.
    pub(crate) fn new(
        family: core::IpFamily,
        compared: Result<Option<Vec<core::Difference>>, core::SyncError>,
        repairs: impl IntoIterator<Item = Repair>,
    ) -> Self {
        let repairs = repairs.into_iter().collect();
        let check = Self { family: family.to_string(), repairs, ..Self::default() };
        match compared {
            Ok(Some(found)) => {
                Self { compared: true, total: found.len(), differences: named(&found), ..check }
            }
            Ok(None) => check,
            Err(error) => Self { failure: Some(error.to_string()), ..check },
        }
    }
}

impl Repair {
    /// Damage that was found now.
    pub(crate) fn now(found: &[core::Difference]) -> Self {
        let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let at = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        Self { at, differences: named(found), total: found.len() }
    }
}

fn named(found: &[core::Difference]) -> Vec<Difference> {
    found.iter().take(NAMED).map(Difference::from).collect()
}
