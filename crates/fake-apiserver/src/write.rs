//! Create, update, patch and delete.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::defaults;
use super::error::ApiError;
use super::object::Object;
use super::patch;
use super::resource::TypeId;
use super::route::ResourcePath;
use super::selector::Selector;
use super::store::{Condition, Store};

/// How the body of a PATCH is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchKind {
    /// RFC 7386; strategic merge patches are treated as this, so lists are replaced.
    Merge,
    /// RFC 6902.
    Json,
    /// Server-side apply: a merge that creates what is missing.
    Apply,
}

impl PatchKind {
    /// The kind of a content type.
    pub(super) fn of(content_type: &str) -> Result<Self, ApiError> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                Ok(Self::Merge)
            }
            "application/json-patch+json" => Ok(Self::Json),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(ApiError::from_code(415)),
        }
    }
}

/// POST to a collection.
pub(super) fn create(
    store: &mut Store,
    path: &ResourcePath,
    body: &[u8],
) -> Result<Arc<Object>, ApiError> {
    let mut object = parse_object(path.kind, body)?;
    let namespace = namespace_of(path, &object)?;
    let name = match text_of(&object, "name") {
        "" => match text_of(&object, "generateName") {
            "" => return Err(ApiError::bad_request("name or generateName is required")),
            base => format!("{base}{:05x}", store.version() & 0xf_ffff),
        },
        name => name.to_owned(),
    };
    defaults::fill(store, path.kind, &mut object, None);
    let (object, _) = store.put(path.kind, &namespace, &name, object, Condition::New)?;
    Ok(object)
}

/// PUT of an object.
pub(super) fn update(
    store: &mut Store,
    path: &ResourcePath,
    name: &str,
    body: &[u8],
) -> Result<Arc<Object>, ApiError> {
    let mut object = parse_object(path.kind, body)?;
    let named = text_of(&object, "name");
    if named != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    let namespace = namespace_of(path, &object)?;
    let existing = store.get(path.kind, &namespace, name).map(|existing| existing.to_value());
    defaults::fill(store, path.kind, &mut object, existing.as_ref());
    Ok(store.put(path.kind, &namespace, name, object, Condition::Existing)?.0)
}

/// PATCH of an object; also reports whether it was created.
pub(super) fn patch(
    store: &mut Store,
    path: &ResourcePath,
    name: &str,
    kind: PatchKind,
    body: &[u8],
) -> Result<(Arc<Object>, bool), ApiError> {
    let change: Value = parse(body)?;
    let namespace = path.namespace.as_deref().unwrap_or("");
    let existing = store.get(path.kind, namespace, name).map(|existing| existing.to_value());
    let mut value = match (&existing, kind) {
        (Some(existing), _) => existing.clone(),
        (None, PatchKind::Apply) => json!({}),
        (None, _) => return Err(ApiError::not_found(path.kind.get(), name)),
    };
    let condition = if existing.is_some() { Condition::Existing } else { Condition::New };
    match kind {
        PatchKind::Json => patch::apply_operations(&mut value, &change)?,
        PatchKind::Merge | PatchKind::Apply => patch::merge(&mut value, change),
    }
    let mut object = as_object(value)?;
    defaults::fill(store, path.kind, &mut object, existing.as_ref());
    store.put(path.kind, namespace, name, object, condition)
}

/// DELETE of an object; returns the `Status` of success.
pub(super) fn delete(
    store: &mut Store,
    path: &ResourcePath,
    name: &str,
    body: &[u8],
) -> Result<Value, ApiError> {
    let namespace = path.namespace.as_deref().unwrap_or("");
    let missing = || ApiError::not_found(path.kind.get(), name);
    let existing = store.get(path.kind, namespace, name).ok_or_else(missing)?.to_value();
    let options: Value = if body.is_empty() { Value::Null } else { parse(body)? };
    for field in ["uid", "resourceVersion"] {
        let wanted = &options["preconditions"][field];
        if !wanted.is_null() && *wanted != existing["metadata"][field] {
            let why = format!("Precondition failed: {field} in precondition: {wanted}");
            return Err(ApiError::conflict(path.kind.get(), name, &why));
        }
    }
    store.delete(path.kind, namespace, name).ok_or_else(missing)?;
    let mut details = json!({
        "name": name,
        "kind": path.kind.get().plural,
        "uid": existing["metadata"]["uid"],
    });
    if !path.kind.get().group.is_empty() {
        details["group"] = path.kind.get().group.into();
    }
    Ok(success(&details))
}

/// DELETE of the selected objects of a collection.
pub(super) fn delete_collection(store: &mut Store, kind: TypeId, selector: &Selector) -> Value {
    let (view, _) = store.view(kind);
    for object in view.iter().filter(|object| selector.matches(object)) {
        store.delete(kind, &object.namespace, &object.name);
    }
    success(&json!({"kind": kind.get().plural}))
}

fn success(details: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

fn as_object(value: Value) -> Result<Map<String, Value>, ApiError> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(ApiError::bad_request("the body must be a JSON object")),
    }
}

/// Parses an object and checks that it is of the type of the path.
fn parse_object(kind: TypeId, body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let object = as_object(parse(body)?)?;
    let api_version = kind.get().api_version();
    for (field, expected) in [("kind", kind.get().kind), ("apiVersion", api_version.as_str())] {
        match object.get(field) {
            None => {}
            Some(Value::String(given)) if given.is_empty() || given == expected => {}
            Some(given) => {
                return Err(ApiError::bad_request(format!(
                    "{field} in the data ({given}) does not match the expected {expected}"
                )));
            }
        }
    }
    Ok(object)
}

fn namespace_of(path: &ResourcePath, object: &Map<String, Value>) -> Result<String, ApiError> {
    let given = text_of(object, "namespace");
    match path.namespace.as_deref() {
        Some(namespace) if given.is_empty() || given == namespace => Ok(namespace.to_owned()),
        None if !path.kind.get().namespaced => Ok(String::new()),
        _ => Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// A text field of the metadata; empty when it is not there.
fn text_of<'a>(object: &'a Map<String, Value>, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}
