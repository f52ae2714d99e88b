//! The one trait that a mode implements.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Algorithm, Changes, Frontend, NodePortAddresses, Refused, ServicePortName, Session, SessionKey,
    Snapshot,
};

/// Makes one node match snapshots of one IP family.
///
/// There is one value per family and mode. The contract:
///
/// * `sync` is idempotent: called twice with the same snapshot, the second call changes nothing on the node.
/// * What a backend believes to be on the node is updated only after the kernel accepted it. After an error the caller's next `sync` is full,
///   and a full sync repairs whatever it finds.
/// * A partial sync costs the change, not the cluster.
/// * Dropping a backend leaves the node as it is. What removes a mode from a node is a function beside the backend, which needs no
///   backend of a mode that may not even work here; see [`Removed`].
///
/// Methods may block the thread (the kernel interfaces do); call them on a thread where that is fine.
#[async_trait]
pub trait ProxyBackend: Send {
    /// Makes the node match `snapshot`.
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError>;

    /// The annotations of Services that this backend reads. They are in
    /// [`ServicePolicy::annotations`](crate::ServicePolicy::annotations) of its snapshots, and no others are.
    fn annotations(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The algorithms that this backend has besides the random choice. Its snapshots ask for no others.
    fn algorithms(&self) -> Vec<Algorithm> {
        Vec::new()
    }

    /// Checks whether what the last sync wrote is still on the node, at small cost. `false` asks for a full sync.
    async fn intact(&mut self) -> Result<bool, SyncError>;

    /// Compares what is on the node, object by object, with what `snapshot` asks for, and changes nothing.
    ///
    /// It reads everything, so it costs what a full sync costs: it is for a person who asks, and for what a report says of damage.
    /// `snapshot` is the one of the last sync.
    async fn compare(&mut self, _snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        Err(SyncError::Unsupported(
            "this mode does not compare the node object by object".to_owned(),
        ))
    }

    /// The session of one client with one service port under session affinity; `None` if it has none, so that its next connection chooses.
    ///
    /// It looks up what one session needs, for a person who asks. `snapshot` is the one of the last sync.
    async fn session(
        &mut self,
        _snapshot: &Snapshot,
        _key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        Err(SyncError::Unsupported("this mode does not say which sessions there are".to_owned()))
    }

    /// Hands over what a backend calls when it wants [`intact`](Self::intact) to be called before its turn: when it learned that another program
    /// else touched its rules, or when something it waits for is due. A backend that never wants that ignores it.
    fn set_waker(&mut self, _waker: CheckWaker) {}

    /// The node has other addresses for node ports now, which count from the next sync on: a full one.
    /// `false` if only a new backend can do that; those that hold connections can.
    fn set_node_ports(&mut self, _addresses: &NodePortAddresses) -> bool {
        false
    }

    /// What went through each service port, as counted on the node, in no particular order. Empty where the mode does not count.
    ///
    /// The counters are the kernel's: they may start again when rules are written, so who keeps totals adds up what they rise by.
    /// A service port that had traffic is in the answer as long as it is in the snapshot: its totals end when it is left out.
    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        Ok(Vec::new())
    }

    /// The attempts to connect to each service port that no endpoint got, as counted on the node, in no particular order.
    /// Empty where the mode does not count them.
    ///
    /// What holds for [`traffic`](Self::traffic) holds here: who keeps totals adds up what they rise by, and what is counted stays in the answer
    /// as long as the service port is in the snapshot.
    async fn refused(&mut self) -> Result<Vec<Refused>, SyncError> {
        Ok(Vec::new())
    }
}

/// One object on the node that is not what the snapshot asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// What the object is: `element`, `chain`, `virtual server` and the like.
    pub kind: &'static str,
    /// Its name, with the place it is in: `cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.1.5 . 8080`.
    pub name: String,
    /// How it differs.
    pub deviation: Deviation,
    /// The service port it is there for, where that is known.
    pub service: Option<ServicePortName>,
}

/// How an object on the node differs from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// It is not there.
    Missing,
    /// It is there and should not be.
    Unexpected,
    /// It is there with other content.
    Different,
}

impl Difference {
    /// An object that no one service port is behind.
    pub fn new(kind: &'static str, name: impl Into<String>, deviation: Deviation) -> Self {
        Self { kind, name: name.into(), deviation, service: None }
    }
}

/// What came of removing what a mode left on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// There was nothing.
    Nothing,
    /// All of it.
    All,
    /// All but what rules of another program lead to: emptied, and kept for as long as they do.
    Referenced {
        /// How many chains that are.
        chains: usize,
    },
    /// What connections need that continue is still there; to be tried again later.
    Waiting {
        /// How many there are.
        connections: usize,
    },
}

impl Removed {
    /// Where nothing is waited for: whether there was anything.
    pub fn at_once(found: bool) -> Self {
        if found { Self::All } else { Self::Nothing }
    }
}

/// Asks for [`ProxyBackend::intact`] to be called soon; cheap, callable from any thread, any number of times.
#[derive(Clone)]
pub struct CheckWaker(Arc<dyn Fn() + Send + Sync>);

impl CheckWaker {
    /// A waker that calls `wake`, which must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Asks.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for CheckWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckWaker")
    }
}

/// What went through a service port, or to one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The service port.
    pub service: ServicePortName,
    /// The endpoint; `None` if the numbers are of all endpoints together.
    pub endpoint: Option<SocketAddr>,
    /// New connections; for UDP, new flows.
    pub connections: u64,
    /// Bytes, where the mode counts them.
    pub bytes: Option<TrafficBytes>,
}

/// Bytes in both directions, IP headers included where the kernel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficBytes {
    /// From clients to endpoints.
    pub sent: u64,
    /// From endpoints to clients.
    pub received: u64,
}

/// How much of the snapshot a sync has to look at.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// Everything; nothing on the node is taken for granted.
    Full,
    /// Only what changed since the last successful sync.
    Partial(&'a Changes),
    /// Everything, and more than what seems wrong is written again: full syncs are refused in the same way again and again.
    /// Where a mode has nothing deeper than a full sync, that is enough.
    Repair(Repair<'a>),
}

/// How deep a sync goes after refusals that repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair<'a> {
    /// The object that was refused is deleted and written again, as if nothing were known about it.
    Object(&'a Refusal),
    /// All objects are.
    Table,
}

/// What the kernel refused: enough to know the same refusal again, and to find the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// What the object is, such as `set`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The number of the error; 0 where a program says it in words.
    pub errno: i32,
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Objects on the node by kind, such as the rules of one table.
    pub counts: Vec<ObjectCount>,
    /// Service ports that are not on the node, or not with all frontends: the kernel refused what was to be written for them, or the node
    /// needs one of their addresses otherwise.
    pub refused: usize,
    /// Services that ask for a fast path that the node does not have.
    pub without_fast_path: usize,
    /// UDP frontends that a full sync found on the node, left by an earlier process, and removed because no service port has them.
    /// Their conntrack entries may still lead to old endpoints; [`Proxy`](crate::Proxy) has them checked.
    pub removed_udp: Vec<Frontend>,
}

/// How many objects of one kind there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectCount {
    /// The kind, such as `nat`, the table whose rules are counted.
    pub kind: &'static str,
    /// How many this sync wrote.
    pub written: usize,
    /// How many the backend has on the node now.
    pub total: usize,
}

/// Why a sync failed. The message is complete: what was tried, on what, and what the kernel or the program said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The node lacks something this mode needs; trying again will not help by itself.
    #[error("not supported on this node: {0}")]
    Unsupported(String),
    /// Another program holds a lock.
    #[error("{0}")]
    Busy(String),
    /// What was to be read or changed does not exist, such as a table that this kernel does not have.
    #[error("{0}")]
    NotFound(String),
    /// What was to be written was refused.
    #[error("{0}")]
    Refused(String),
    /// The same, and the object is known.
    #[error("{message}")]
    RefusedObject {
        /// The message.
        message: String,
        /// The object.
        refusal: Refusal,
    },
    /// The operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl SyncError {
    /// All that [`reason`](Self::reason) may say.
    pub const REASONS: [&str; 4] = ["unsupported", "busy", "refused", "io"];

    /// Why, in one word, for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "unsupported",
            Self::Busy(_) => "busy",
            Self::NotFound(_) | Self::Refused(_) | Self::RefusedObject { .. } => "refused",
            Self::Io { .. } => "io",
        }
    }

    /// The failures of several parts as one that names each; `None` without any.
    pub fn of_parts(mut failures: Vec<Self>) -> Option<Self> {
        if failures.len() < 2 {
            return failures.pop();
        }
        let text: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let text = text.join("; ");
        let busy = failures.iter().all(|failure| matches!(failure, Self::Busy(_)));
        Some(if busy { Self::Busy(text) } else { Self::Refused(text) })
    }
}
