//! From an HTTP request to an HTTP response.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch::{Receiver, Sender};

use super::discovery;
use super::error::ApiError;
use super::faults::FaultState;
use super::handle::Options;
use super::list;
use super::query::{ListOptions, Query};
use super::requests::{RequestLog, Verb};
use super::resource::{RESOURCES, TypeId};
use super::route::{ResourcePath, Route};
use super::selector::Selector;
use super::store::Store;
use super::watch::Watch;
use super::write::{self, PatchKind};

/// The largest body of a request in bytes; a real server takes about 3 MB.
const MAX_BODY: usize = 16 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Result<Response<Body>, ApiError>;

/// What the server thread and the handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    store: Mutex<Store>,
    faults: Mutex<FaultState>,
    log: Mutex<RequestLog>,
    open_watches: Mutex<[usize; RESOURCES.len()]>,
    wake: Sender<u64>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        Self {
            store: Mutex::new(Store::new(options.history_window)),
            options,
            faults: Mutex::default(),
            log: Mutex::default(),
            open_watches: Mutex::default(),
            wake: Sender::new(0),
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, FaultState> {
        lock(&self.faults)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, RequestLog> {
        lock(&self.log)
    }

    /// Lets all watches look at the store and the faults again.
    pub(super) fn wake(&self) {
        self.wake.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn subscribe(&self) -> Receiver<u64> {
        self.wake.subscribe()
    }

    pub(super) fn watch_opened(&self, kind: TypeId) {
        lock(&self.open_watches)[kind.index()] += 1;
    }

    pub(super) fn watch_closed(&self, kind: TypeId) {
        lock(&self.open_watches)[kind.index()] -= 1;
    }

    pub(super) fn open_watches(&self, kind: TypeId) -> usize {
        lock(&self.open_watches)[kind.index()]
    }
}

/// A thread that panicked while holding the lock was a test's; the state is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let route = Route::parse(request.uri().path());
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let verb = verb_of(request.method(), &route, &query);
    let resource = match &route {
        Route::Resource(path) => path.kind.get().plural.to_owned(),
        _ => request.uri().path().to_owned(),
    };
    shared.log().arrived(verb, &resource, request.uri().query().unwrap_or(""));
    let (delay, failure) = {
        let mut faults = shared.faults();
        (faults.delay, faults.take_failure(verb, &resource))
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let answer = match failure {
        Some(failure) if failure.is_unanswered() => return std::future::pending().await,
        Some(failure) => {
            let (error, retry_after) = failure.answer();
            let mut response = error_response(&error);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Ok(response)
        }
        None => dispatch(&shared, route, verb, &query, request).await,
    };
    let response = answer.unwrap_or_else(|error| error_response(&error));
    if response.status().as_u16() >= 400 {
        shared.log().failed(verb, &resource);
    }
    Ok(response)
}

fn verb_of(method: &Method, route: &Route, query: &Query) -> Verb {
    let Route::Resource(path) = route else { return Verb::Other };
    match (method.as_str(), &path.name) {
        ("GET", _) if path.watch || query.is_watch() => Verb::Watch,
        ("GET" | "HEAD", None) => Verb::List,
        ("GET" | "HEAD", Some(_)) => Verb::Get,
        ("POST", None) => Verb::Create,
        ("PUT", Some(_)) => Verb::Update,
        ("PATCH", Some(_)) => Verb::Patch,
        ("DELETE", Some(_)) => Verb::Delete,
        ("DELETE", None) => Verb::DeleteCollection,
        _ => Verb::Other,
    }
}

async fn dispatch(
    shared: &Arc<Shared>,
    route: Route,
    verb: Verb,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let document = match route {
        Route::Resource(path) => return resource(shared, path, verb, query, request).await,
        Route::Health => return Ok(full(StatusCode::OK, "text/plain", Bytes::from_static(b"ok"))),
        Route::Version => Some(discovery::version(&shared.options.version)),
        Route::CoreVersions => {
            let host = request.headers().get("host").and_then(|host| host.to_str().ok());
            Some(discovery::core_versions(host.unwrap_or("")))
        }
        Route::Groups => Some(discovery::groups()),
        Route::Group(group) => discovery::group(&group),
        Route::Resources(group, version) => discovery::resources(&group, &version),
        Route::Nothing => None,
    };
    document.map(|value| json_response(StatusCode::OK, &value)).ok_or(ApiError::from_code(404))
}

async fn resource(
    shared: &Arc<Shared>,
    path: ResourcePath,
    verb: Verb,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    match verb {
        Verb::Get => {
            let name = path.name.as_deref().unwrap_or("");
            let store = shared.store();
            let object = store.get(path.kind, path.namespace.as_deref().unwrap_or(""), name);
            let object = object.ok_or_else(|| ApiError::not_found(path.kind.get(), name))?;
            Ok(full(StatusCode::OK, "application/json", object.json().clone()))
        }
        Verb::List => {
            let options = ListOptions::parse(query)?;
            let selector = selector_of(&path, query)?;
            let body = list::list(&mut shared.store(), path.kind, &selector, &options)?;
            Ok(streamed(stream::iter(body.map(|chunk| Ok(Frame::data(chunk))))))
        }
        Verb::Watch => {
            let options = ListOptions::parse(query)?;
            let watch = Watch::open(shared, path.kind, selector_of(&path, query)?, &options)?;
            Ok(streamed(stream::unfold(watch, |mut watch| async {
                let chunk = watch.next().await?;
                Some((chunk.map(Frame::data), watch))
            })))
        }
        Verb::Other => Err(ApiError::from_code(405)),
        _ => write(shared, &path, verb, query, request).await,
    }
}

async fn write(
    shared: &Arc<Shared>,
    path: &ResourcePath,
    verb: Verb,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let (head, body) = request.into_parts();
    let patch_kind = match verb {
        Verb::Patch => Some(PatchKind::of(content_type(&head.headers))?),
        Verb::Delete | Verb::DeleteCollection => None,
        _ if content_type(&head.headers).starts_with("application/json") => None,
        _ => return Err(ApiError::from_code(415)),
    };
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| ApiError::bad_request(format!("the body: {error}")))?;
    let body = body.to_bytes();
    let name = path.name.as_deref().unwrap_or("");
    let mut store = shared.store();
    let response = match (verb, patch_kind) {
        (Verb::Create, _) => {
            let object = write::create(&mut store, path, &body)?;
            full(StatusCode::CREATED, "application/json", object.json().clone())
        }
        (Verb::Patch, Some(kind)) => {
            let (object, created) = write::patch(&mut store, path, name, kind, &body)?;
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            full(status, "application/json", object.json().clone())
        }
        (Verb::Delete, _) => {
            json_response(StatusCode::OK, &write::delete(&mut store, path, name, &body)?)
        }
        (Verb::DeleteCollection, _) => {
            let selector = selector_of(path, query)?;
            let status = write::delete_collection(&mut store, path.kind, &selector);
            json_response(StatusCode::OK, &status)
        }
        _ => {
            let object = write::update(&mut store, path, name, &body)?;
            full(StatusCode::OK, "application/json", object.json().clone())
        }
    };
    drop(store);
    shared.wake();
    Ok(response)
}

/// The content type of a request; JSON when it does not say.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or("application/json")
}

/// The selector of a request; a watch or list of one named object is a selection by name.
fn selector_of(path: &ResourcePath, query: &Query) -> Result<Selector, ApiError> {
    let mut fields = query.get("fieldSelector").to_owned();
    if let Some(name) = &path.name {
        fields = format!("metadata.name={name},{fields}");
    }
    Selector::parse(path.namespace.as_deref(), query.get("labelSelector"), &fields)
}

fn full(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    with_head(status, content_type, body)
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    full(status, "application/json", Bytes::from(value.to_string()))
}

fn error_response(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    full(status, "application/json", error.to_json())
}

fn streamed(
    chunks: impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static,
) -> Response<Body> {
    with_head(StatusCode::OK, "application/json", StreamBody::new(chunks).boxed_unsync())
}

fn with_head(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}
