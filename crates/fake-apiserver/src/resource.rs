//! The table of resources that the server knows.

/// One resource type of the API.
#[derive(Debug)]
pub(super) struct ResourceType {
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    /// Version of the group.
    pub(super) version: &'static str,
    /// Plural name, as in paths.
    pub(super) plural: &'static str,
    /// Singular name, for discovery.
    pub(super) singular: &'static str,
    /// Kind of one object.
    pub(super) kind: &'static str,
    /// Names that kubectl accepts instead of the plural.
    pub(super) short_names: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub(super) namespaced: bool,
    /// Whether `/status` exists.
    pub(super) status: bool,
    /// Field paths whose values are kept beside the object, so that field selectors need not parse it.
    pub(super) indexed: &'static [&'static str],
}

/// All resource types; the position is the [`TypeId`].
pub(super) const RESOURCES: &[ResourceType] = &[
    core("services", "service", "Service", &["svc"], &["spec.clusterIP", "spec.type"]),
    core("endpoints", "endpoints", "Endpoints", &["ep"], &[]),
    ResourceType {
        namespaced: false,
        ..core("nodes", "node", "Node", &["no"], &["spec.unschedulable"])
    },
    core("pods", "pod", "Pod", &["po"], &["spec.nodeName", "status.phase", "status.podIP"]),
    ResourceType {
        namespaced: false,
        ..core("namespaces", "namespace", "Namespace", &["ns"], &[])
    },
    ResourceType { status: false, ..core("configmaps", "configmap", "ConfigMap", &["cm"], &[]) },
    ResourceType {
        status: false,
        ..core("events", "event", "Event", &["ev"], &["reason", "type"])
    },
    ResourceType {
        group: "discovery.k8s.io",
        status: false,
        ..core("endpointslices", "endpointslice", "EndpointSlice", &[], &[])
    },
    ResourceType {
        group: "networking.k8s.io",
        namespaced: false,
        ..core("servicecidrs", "servicecidr", "ServiceCIDR", &[], &[])
    },
    ResourceType {
        group: "events.k8s.io",
        status: false,
        ..core("events", "event", "Event", &["ev"], &["reason", "type"])
    },
];

/// A namespaced type of the core group with a status; the table overrides what differs.
const fn core(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    indexed: &'static [&'static str],
) -> ResourceType {
    ResourceType {
        group: "",
        version: "v1",
        plural,
        singular,
        kind,
        short_names,
        namespaced: true,
        status: true,
        indexed,
    }
}

/// Index of a resource type in [`RESOURCES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(usize);

impl TypeId {
    /// The table entry.
    pub(super) fn get(self) -> &'static ResourceType {
        &RESOURCES[self.0]
    }

    /// The position in [`RESOURCES`].
    pub(super) fn index(self) -> usize {
        self.0
    }

    /// The type behind `/apis/<group>/<version>/<plural>`.
    pub(super) fn by_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// The type of an object's `apiVersion` and `kind`.
    pub(super) fn by_kind(api_version: &str, kind: &str) -> Option<Self> {
        Self::find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// The first type with this kind or plural, in any group.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::find(|r| r.kind == name || r.plural == name)
    }

    fn find(wanted: impl Fn(&ResourceType) -> bool) -> Option<Self> {
        RESOURCES.iter().position(wanted).map(Self)
    }
}

impl ResourceType {
    /// `v1` or `group/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `services` or `endpointslices.discovery.k8s.io`, as messages name a resource.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}
