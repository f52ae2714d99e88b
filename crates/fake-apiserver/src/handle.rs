//! The handle by which tests drive the server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::encoding::{Encoding, Format};
use super::error::ApiError;
use super::listen::ServerThread;
use super::options::Options;
use super::requests::RequestLog;
use super::resource::TypeId;
use super::shared::Shared;
use super::store::{Condition, Store};
use super::switches::Faults;

/// Objects written before the store is unlocked for watches and requests.
const APPLIED_AT_ONCE: usize = 128;

/// Makes the listener with which a stopped server comes back; it binds in the right network namespace.
pub type Rebind = Box<dyn Fn() -> io::Result<TcpListener> + Send>;

/// A running API server. Dropping it closes all connections and ends its thread.
pub struct ApiServer {
    shared: Arc<Shared>,
    thread: ServerThread,
    address: SocketAddr,
    rebind: Mutex<Rebind>,
}

impl ApiServer {
    /// Starts a server with default settings on an address of the caller's network namespace; port 0 takes a free one.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let bound = listener.local_addr()?;
        Self::on_listener(listener, Box::new(move || TcpListener::bind(bound)), Options::default())
    }

    /// Starts a server on a listener, which may be of another network namespace.
    /// `rebind` is called by [`ApiServer::resume`], on the thread of its caller, and must bind the same address.
    pub fn on_listener(
        listener: TcpListener,
        rebind: Rebind,
        options: Options,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        let thread = ServerThread::start(Arc::clone(&shared), listener)?;
        Ok(Self { shared, thread, address, rebind: Mutex::new(rebind) })
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ip:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig for this server as JSON, which is YAML too, with a static token that is not checked.
    pub fn kubeconfig(&self) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url()}}],
            "users": [{"name": "test", "user": {"token": "test-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        format!("{config:#}\n")
    }

    /// Creates or replaces an object, found by its `apiVersion`, `kind`, namespace and name, and returns its
    /// resourceVersion. A namespaced object without a namespace goes to `default`. The resourceVersion in the object
    /// is ignored; an object equal to the stored one is not written.
    pub fn apply(&self, object: Value) -> Result<u64, ApiError> {
        let version = apply_to(&mut self.shared.store(), object);
        self.shared.wake();
        version
    }

    /// Applies many objects, and returns the resourceVersion after them. Stops at the first error.
    pub fn apply_many(&self, objects: impl IntoIterator<Item = Value>) -> Result<u64, ApiError> {
        let mut objects = objects.into_iter().peekable();
        while objects.peek().is_some() {
            let batch: Vec<Value> = objects.by_ref().take(APPLIED_AT_ONCE).collect();
            let mut store = self.shared.store();
            let result = batch.into_iter().try_for_each(|o| apply_to(&mut store, o).map(|_| ()));
            drop(store);
            self.shared.wake();
            result?;
        }
        Ok(self.version())
    }

    /// Deletes an object and returns the resourceVersion of the deletion.
    /// `kind` is the kind or the plural name; the namespace of cluster-scoped objects is empty.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<u64, ApiError> {
        let kind = type_by_name(kind)?;
        let deleted = self.shared.store().delete(kind, namespace, name);
        self.shared.wake();
        deleted.map(|object| object.version).ok_or_else(|| ApiError::not_found(kind.get(), name))
    }

    /// The current object, if it exists; arguments as for [`ApiServer::delete`].
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = TypeId::by_name(kind)?;
        self.shared.store().get(kind, namespace, name).map(|object| object.to_value())
    }

    /// All objects of a kind, sorted by namespace and name.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let Some(kind) = TypeId::by_name(kind) else { return Vec::new() };
        let (view, _) = self.shared.store().view(kind);
        view.iter().map(|object| object.to_value()).collect()
    }

    /// Encodes all objects of a kind in protobuf now, so that the first client that asks for it does not wait longer than others.
    pub fn encode_all(&self, kind: &str) {
        let Some(kind) = TypeId::by_name(kind) else { return };
        let encoding =
            Encoding { format: Format::Protobuf, drop: self.shared.faults().negotiation.drops };
        let (view, _) = self.shared.store().view(kind);
        for object in &*view {
            object.encoded(encoding);
        }
    }

    /// The current resourceVersion of the server.
    pub fn version(&self) -> u64 {
        self.shared.store().version()
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The switches for misbehaviour.
    pub fn faults(&self) -> Faults<'_> {
        Faults { shared: &self.shared }
    }

    /// Closes the listener and all connections: the server is gone, as after a crash. Objects and history stay.
    pub fn stop(&self) {
        self.thread.pause();
    }

    /// Brings a stopped server back on the same address.
    pub fn resume(&self) -> io::Result<()> {
        let rebind = self.rebind.lock().unwrap_or_else(PoisonError::into_inner);
        self.thread.listen(rebind()?)
    }

    /// A copy of the log of requests.
    pub fn requests(&self) -> RequestLog {
        self.shared.log().clone()
    }

    /// Empties the log of requests.
    pub fn clear_requests(&self) {
        *self.shared.log() = RequestLog::default();
    }

    /// Bytes that were sent to clients since the start, heads of responses included.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.costs.sent()
    }

    /// How long the thread of the server ran on a processor since its start.
    pub fn processor_time(&self) -> io::Result<Duration> {
        self.shared.costs.time()
    }

    /// How many watches of a kind are open, stalled ones too.
    pub fn open_watches(&self, kind: &str) -> usize {
        TypeId::by_name(kind).map_or(0, |kind| self.shared.open_watches(kind))
    }

    /// Waits until this many watches of a kind are open; false when the time is over before.
    pub fn wait_for_watches(&self, kind: &str, count: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.open_watches(kind) != count {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

fn apply_to(store: &mut Store, object: Value) -> Result<u64, ApiError> {
    let Value::Object(object) = object else {
        return Err(ApiError::bad_request("an object must be a JSON object"));
    };
    let text = |map: &Map<String, Value>, field: &str| {
        map.get(field).and_then(Value::as_str).unwrap_or("").to_owned()
    };
    let (api_version, kind) = (text(&object, "apiVersion"), text(&object, "kind"));
    let known = TypeId::by_kind(&api_version, &kind);
    let unknown = || ApiError::bad_request(format!("no resource is of {api_version:?} {kind:?}"));
    let kind = known.ok_or_else(unknown)?;
    let metadata = object.get("metadata").and_then(Value::as_object);
    let metadata = metadata.ok_or_else(|| ApiError::bad_request("metadata: must be an object"))?;
    let name = text(metadata, "name");
    if name.is_empty() {
        return Err(ApiError::bad_request("metadata.name: must be set"));
    }
    let namespace = match (kind.get().namespaced, text(metadata, "namespace")) {
        (false, _) => String::new(),
        (true, namespace) if namespace.is_empty() => "default".to_owned(),
        (true, namespace) => namespace,
    };
    Ok(store.put(kind, &namespace, &name, object, Condition::Any)?.0.version)
}

fn type_by_name(kind: &str) -> Result<TypeId, ApiError> {
    TypeId::by_name(kind).ok_or_else(|| ApiError::bad_request(format!("unknown kind {kind:?}")))
}
