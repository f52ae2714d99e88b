//! What a path names.

use super::query::decode;
use super::resource::TypeId;

/// The thing behind a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A collection, or one object of it.
    Resource(ResourcePath),
    /// `/healthz`, `/livez`, `/readyz` and the checks below them.
    Health,
    /// `/version`
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1` (empty group) and `/apis/<group>/<version>`
    Resources(String, String),
    /// Nothing is there.
    Nothing,
}

/// The path of a collection or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourcePath {
    /// The type.
    pub(super) kind: TypeId,
    /// The namespace, when the path names one.
    pub(super) namespace: Option<String>,
    /// The object, when the path names one.
    pub(super) name: Option<String>,
    /// `/watch/` stood in the path, the old way to ask for a watch.
    pub(super) watch: bool,
}

impl Route {
    /// Finds the route of a path.
    pub(super) fn parse(path: &str) -> Self {
        let parts: Vec<String> =
            path.split('/').filter(|p| !p.is_empty()).map(|p| decode(p, false)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Self::Health,
            ["version"] => Self::Version,
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["api", version] => Self::Resources(String::new(), (*version).to_owned()),
            ["apis", group, version] => Self::Resources((*group).to_owned(), (*version).to_owned()),
            ["api", version, rest @ ..] => Self::resource("", version, rest),
            ["apis", group, version, rest @ ..] => Self::resource(group, version, rest),
            _ => Self::Nothing,
        }
    }

    fn resource(group: &str, version: &str, parts: &[&str]) -> Self {
        let (watch, parts) = match parts {
            ["watch", rest @ ..] => (true, rest),
            _ => (false, parts),
        };
        let type_of = |plural: &str| TypeId::by_path(group, version, plural);
        // `namespaces/x/services` is a collection, `namespaces/x` and `namespaces/x/status` are an object.
        let inside = match parts {
            ["namespaces", namespace, plural, rest @ ..] => {
                type_of(plural).map(|kind| (kind, Some((*namespace).to_owned()), rest))
            }
            _ => None,
        };
        let outside = || {
            let (plural, rest) = parts.split_first()?;
            Some((type_of(plural)?, None, rest))
        };
        let Some((kind, namespace, rest)) = inside.or_else(outside) else {
            return Self::Nothing;
        };
        if namespace.is_some() && !kind.get().namespaced {
            return Self::Nothing;
        }
        let name = match rest {
            [] => None,
            [name] => Some((*name).to_owned()),
            [name, "status"] if kind.get().status => Some((*name).to_owned()),
            _ => return Self::Nothing,
        };
        if name.is_some() && kind.get().namespaced && namespace.is_none() {
            return Self::Nothing;
        }
        Self::Resource(ResourcePath { kind, namespace, name, watch })
    }
}
