//! What `/flagz` shows: every flag with the value that counts.

use serde_json::Value;

use super::Start;
use crate::flags;
use crate::layers::flag_fields;
use crate::types::KubeProxyConfiguration;

/// A flag that sets a field shows what the field is in the end, whatever set it; others show what was given, or their default.
pub(super) fn flags(start: &Start<'_>, config: &KubeProxyConfiguration) -> Vec<(String, String)> {
    let fields = flag_fields(&config.mode);
    let tree = serde_json::to_value(config).unwrap_or_default();
    let given = flags::given(start.args.iter().cloned());
    let value = |definition: &flags::Definition| {
        if let Some((_, path)) = fields.iter().find(|(flag, _)| *flag == definition.name) {
            let pointer = format!("/{}", path.replace('.', "/"));
            return text(tree.pointer(&pointer).unwrap_or(&Value::Null));
        }
        let variable = || (start.variable)(&flags::variable(&definition.name));
        let given = given.get(&definition.name).cloned().or_else(variable);
        given.unwrap_or_else(|| {
            let bare = definition.boolean && definition.default.is_empty();
            if bare { "false".to_owned() } else { definition.default.clone() }
        })
    };
    let mut all: Vec<_> = flags::definitions()
        .into_iter()
        .map(|definition| (value(&definition), definition.name))
        .map(|(value, name)| (name, value))
        .collect();
    all.sort();
    all
}

/// The text of a flag that would set this value.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        // An entry of vmodule.
        Value::Object(fields) if fields.contains_key("filePattern") => {
            format!("{}={}", text(&fields["filePattern"]), text(&value["verbosity"]))
        }
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", text(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
