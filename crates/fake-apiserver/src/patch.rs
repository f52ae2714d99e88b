//! Merge patches and JSON patches.

use serde_json::{Map, Value};

use super::error::ApiError;

/// Applies a merge patch (RFC 7386).
/// The directives of strategic merge patches, whose names begin with `$`, are left out.
pub(super) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Applies the operations `add`, `replace`, `remove` and `test` of a JSON patch (RFC 6902).
pub(super) fn apply_operations(target: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Some(operations) = patch.as_array() else {
        return Err(ApiError::bad_request("a JSON patch must be a list of operations"));
    };
    for operation in operations {
        let field = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or("");
        let value = operation.get("value").cloned().unwrap_or(Value::Null);
        let done = apply_operation(target, field("op"), field("path"), value);
        done.ok_or_else(|| {
            let message = format!("the JSON patch cannot be applied: {operation}");
            ApiError::new(422, "Invalid", message)
        })?;
    }
    Ok(())
}

/// `None` when the operation is unknown or does not fit the document.
fn apply_operation(target: &mut Value, op: &str, path: &str, value: Value) -> Option<()> {
    if op == "test" {
        return target.pointer(path).filter(|found| **found == value).map(|_| ());
    }
    let (parent, last) = path.rsplit_once('/')?;
    let last = last.replace("~1", "/").replace("~0", "~");
    match (op, target.pointer_mut(parent)?) {
        ("add", Value::Object(object)) => {
            object.insert(last, value);
        }
        ("add", Value::Array(items)) if last == "-" => items.push(value),
        ("add", Value::Array(items)) => {
            let at = last.parse().ok().filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        ("replace", Value::Object(object)) => *object.get_mut(&last)? = value,
        ("replace", Value::Array(items)) => *items.get_mut(last.parse::<usize>().ok()?)? = value,
        ("remove", Value::Object(object)) => {
            object.remove(&last)?;
        }
        ("remove", Value::Array(items)) => {
            let at = last.parse().ok().filter(|at| *at < items.len())?;
            items.remove(at);
        }
        _ => return None,
    }
    Some(())
}
