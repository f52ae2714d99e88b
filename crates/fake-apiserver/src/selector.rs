//! Label and field selectors.

use super::error::ApiError;
use super::object::Object;

/// Which objects a request wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
    /// Only this namespace.
    namespace: Option<String>,
}

/// One part of a label selector.
#[derive(Clone, Debug, PartialEq)]
struct LabelRequirement {
    key: String,
    condition: LabelCondition,
}

#[derive(Clone, Debug, PartialEq)]
enum LabelCondition {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// One part of a field selector.
#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    path: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Parses the two selectors of a request; empty text selects everything.
    pub(super) fn parse(
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            labels: split(labels).map(LabelRequirement::parse).collect::<Result<_, _>>()?,
            fields: split(fields).map(FieldRequirement::parse).collect::<Result<_, _>>()?,
            namespace: namespace.map(str::to_owned),
        })
    }

    /// Whether every object is selected, or every one of one namespace.
    pub(super) fn selects_by_content(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Whether the object is selected.
    pub(super) fn matches(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == &*object.namespace)
            && self.labels.iter().all(|r| r.matches(object.label(&r.key)))
            && self.fields.iter().all(|r| (object.field(&r.path) == r.value) == r.equal)
    }
}

impl LabelRequirement {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let (key, condition) = if let Some(key) = text.strip_prefix('!') {
            (key, LabelCondition::Absent)
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, LabelCondition::NotIn(vec![value.trim().to_owned()]))
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (key, LabelCondition::In(vec![value.trim().to_owned()]))
        } else if let Some((head, values)) = text.split_once('(') {
            return Self::parse_set(text, head, values);
        } else {
            (text, LabelCondition::Exists)
        };
        Self::new(text, key, condition)
    }

    /// `key in (a, b)` and `key notin (a, b)`.
    fn parse_set(text: &str, head: &str, values: &str) -> Result<Self, ApiError> {
        let values = values.trim_end().strip_suffix(')').ok_or_else(|| unparsable(text))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().split_once(' ').ok_or_else(|| unparsable(text))?;
        match operator.trim() {
            "in" => Self::new(text, key, LabelCondition::In(values)),
            "notin" => Self::new(text, key, LabelCondition::NotIn(values)),
            _ => Err(unparsable(text)),
        }
    }

    fn new(text: &str, key: &str, condition: LabelCondition) -> Result<Self, ApiError> {
        let key = key.trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if key.is_empty() || !key.chars().all(valid) {
            return Err(unparsable(text));
        }
        Ok(Self { key: key.to_owned(), condition })
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let among = |values: &[String]| label.is_some_and(|l| values.iter().any(|v| v == l));
        match &self.condition {
            LabelCondition::Exists => label.is_some(),
            LabelCondition::Absent => label.is_none(),
            LabelCondition::In(values) => among(values),
            LabelCondition::NotIn(values) => !among(values),
        }
    }
}

impl FieldRequirement {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let (path, equal, value) = if let Some((path, value)) = text.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (path, true, value)
        } else {
            return Err(ApiError::bad_request(format!(
                "invalid selector: '{text}'; can't understand it"
            )));
        };
        Ok(Self { path: path.trim().to_owned(), equal, value: value.trim().to_owned() })
    }
}

fn unparsable(text: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: '{text}'"))
}

/// Splits at the commas that stand outside parentheses; drops empty parts.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests;
