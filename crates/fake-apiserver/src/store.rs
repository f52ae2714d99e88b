//! The objects, their history, and consistent views of them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::collection::{Change, ChangeKind, Collection, View};
use super::error::ApiError;
use super::object::{Object, key};
use super::resource::{RESOURCES, TypeId};

/// The resourceVersion of the empty store; a real server has written some objects of its own by now.
const FIRST_VERSION: u64 = 1000;
/// How many views are kept for lists that continue page by page.
const KEPT_VIEWS: usize = 8;

/// When a write may take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Create or replace.
    Any,
    /// The object must not exist.
    New,
    /// The object must exist, and its resourceVersion must be the one in the new object, if that has one.
    Existing,
}

/// The whole state of the server.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    /// Before this resourceVersion, everything was compacted away.
    compacted: u64,
    /// How many changes of one type the history holds.
    window: usize,
    collections: Vec<Collection>,
    /// Views by type and by the version of the last change in them; the oldest first.
    views: VecDeque<(TypeId, u64, View)>,
    created: u64,
}

impl Store {
    /// An empty store that remembers this many changes of each type.
    pub(super) fn new(window: usize) -> Self {
        Self {
            version: FIRST_VERSION,
            compacted: 0,
            window,
            collections: RESOURCES.iter().map(|_| Collection::default()).collect(),
            views: VecDeque::new(),
            created: 0,
        }
    }

    /// The current resourceVersion.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The current version of one object.
    pub(super) fn get(&self, kind: TypeId, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.collections[kind.index()].objects.get(key(namespace, name).as_str())
    }

    /// Writes one object and reports whether it is new.
    /// An object that does not differ from the stored one is not written, as in etcd-backed servers.
    pub(super) fn put(
        &mut self,
        kind: TypeId,
        namespace: &str,
        name: &str,
        mut object: Map<String, Value>,
        condition: Condition,
    ) -> Result<(Arc<Object>, bool), ApiError> {
        let existing = self.get(kind, namespace, name).cloned();
        check(kind, name, &object, existing.as_deref(), condition)?;
        self.complete_metadata(kind, namespace, name, &mut object, existing.as_deref())?;
        let version = self.version + 1;
        let object = Object::encode(kind, namespace, name, version, object);
        if let Some(existing) = &existing
            && existing.content() == object.content()
        {
            return Ok((Arc::clone(existing), false));
        }
        let object = Arc::new(object);
        let change = match existing {
            None => ChangeKind::Added,
            Some(_) => ChangeKind::Modified,
        };
        let objects = &mut self.collections[kind.index()].objects;
        let previous = objects.insert(key(namespace, name).into(), Arc::clone(&object));
        self.record(Change { kind: change, object: Arc::clone(&object), previous });
        Ok((object, change == ChangeKind::Added))
    }

    /// Deletes one object and returns its last version, if it existed.
    pub(super) fn delete(
        &mut self,
        kind: TypeId,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        let objects = &mut self.collections[kind.index()].objects;
        let previous = objects.remove(key(namespace, name).as_str())?;
        let object = Arc::new(previous.with_version(self.version + 1));
        self.record(Change {
            kind: ChangeKind::Deleted,
            object: Arc::clone(&object),
            previous: Some(previous),
        });
        Some(object)
    }

    /// Forgets the history, so that every resourceVersion handed out so far is too old.
    /// Watches that are open and up to date continue.
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.views.clear();
        for collection in &mut self.collections {
            collection.history.clear();
            collection.dropped = collection.changed;
        }
    }

    /// Forgets the kept views only, so that lists that are being paged can continue from the history alone.
    #[cfg(test)]
    pub(super) fn forget_views(&mut self) {
        self.views.clear();
    }

    /// Refuses a resourceVersion that is too old to watch from.
    pub(super) fn check_watchable(&self, kind: TypeId, version: u64) -> Result<(), ApiError> {
        let oldest = self.collections[kind.index()].dropped.max(self.compacted);
        if version < oldest { Err(ApiError::too_old(version, oldest)) } else { Ok(()) }
    }

    /// Calls `each` for up to `limit` changes after a position, and returns the position behind them.
    /// Fails when changes after the position are no longer known.
    pub(super) fn changes_after(
        &self,
        kind: TypeId,
        position: u64,
        limit: usize,
        mut each: impl FnMut(&Change),
    ) -> Result<u64, ApiError> {
        let collection = &self.collections[kind.index()];
        if position < collection.dropped {
            return Err(ApiError::too_old(position, collection.dropped));
        }
        let start = collection.history.partition_point(|c| c.object.version <= position);
        let end = collection.history.len().min(start + limit);
        collection.history.range(start..end).for_each(&mut each);
        if end < collection.history.len() {
            return Ok(collection.history[end - 1].object.version);
        }
        // A position in the future, which a client may ask for, stays there.
        Ok(self.version.max(position))
    }

    /// All objects of a type as they were at a resourceVersion.
    pub(super) fn view_at(&mut self, kind: TypeId, version: u64) -> Result<View, ApiError> {
        let last = self.collections[kind.index()].last_change_at(version);
        if let Some(view) = self.kept_view(kind, last) {
            return Ok(view);
        }
        self.check_watchable(kind, version)?;
        Ok(self.keep_view(kind, last))
    }

    /// All objects of a type now, and the resourceVersion.
    pub(super) fn view(&mut self, kind: TypeId) -> (View, u64) {
        let last = self.collections[kind.index()].changed;
        let view = self.kept_view(kind, last).unwrap_or_else(|| self.keep_view(kind, last));
        (view, self.version)
    }

    fn kept_view(&self, kind: TypeId, last: u64) -> Option<View> {
        let (.., view) = self.views.iter().find(|(k, v, _)| *k == kind && *v == last)?;
        Some(Arc::clone(view))
    }

    fn keep_view(&mut self, kind: TypeId, last: u64) -> View {
        let view = self.collections[kind.index()].view_at(last);
        if self.views.len() == KEPT_VIEWS {
            self.views.pop_front();
        }
        self.views.push_back((kind, last, Arc::clone(&view)));
        view
    }

    fn record(&mut self, change: Change) {
        self.version = change.object.version;
        let collection = &mut self.collections[change.object.kind.index()];
        collection.changed = self.version;
        collection.history.push_back(change);
        while collection.history.len() > self.window {
            if let Some(oldest) = collection.history.pop_front() {
                collection.dropped = oldest.object.version;
            }
        }
    }

    /// Sets the metadata that the server owns.
    fn complete_metadata(
        &mut self,
        kind: TypeId,
        namespace: &str,
        name: &str,
        object: &mut Map<String, Value>,
        existing: Option<&Object>,
    ) -> Result<(), ApiError> {
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Some(metadata) = metadata.as_object_mut() else {
            return Err(ApiError::bad_request("metadata: must be an object"));
        };
        metadata.remove("resourceVersion");
        metadata.insert("name".to_owned(), name.into());
        if kind.get().namespaced {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        let needed = ["uid", "creationTimestamp"].into_iter();
        if needed.clone().all(|field| metadata.get(field).is_some_and(Value::is_string)) {
            return Ok(());
        }
        let old = existing.map(Object::to_value);
        for field in needed {
            let kept = old.as_ref().and_then(|o| o["metadata"].get(field)).cloned();
            if let Some(value) = kept.or_else(|| self.new_metadata(field, metadata.get(field))) {
                metadata.insert(field.to_owned(), value);
            }
        }
        Ok(())
    }

    /// A value for a field of a new object that came without it.
    fn new_metadata(&mut self, field: &str, given: Option<&Value>) -> Option<Value> {
        if given.is_some_and(Value::is_string) {
            return None;
        }
        if field == "creationTimestamp" {
            return Some(format!("{:.0}", Timestamp::now()).into());
        }
        self.created += 1;
        Some(format!("5e11ab1e-0000-4000-8000-{:012x}", self.created).into())
    }
}

/// Checks whether a write may take place.
fn check(
    kind: TypeId,
    name: &str,
    object: &Map<String, Value>,
    existing: Option<&Object>,
    condition: Condition,
) -> Result<(), ApiError> {
    match (condition, existing) {
        (Condition::Any, _) | (Condition::New, None) => Ok(()),
        (Condition::New, Some(_)) => Err(ApiError::already_exists(kind.get(), name)),
        (Condition::Existing, None) => Err(ApiError::not_found(kind.get(), name)),
        (Condition::Existing, Some(existing)) => {
            let sent = object.get("metadata").and_then(|m| m.get("resourceVersion"));
            match sent.and_then(Value::as_str) {
                None | Some("") => Ok(()),
                Some(version) if version == existing.version.to_string() => Ok(()),
                Some(_) => Err(ApiError::conflict(
                    kind.get(),
                    name,
                    "the object has been modified; please apply your changes to the latest version and try again",
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests;
