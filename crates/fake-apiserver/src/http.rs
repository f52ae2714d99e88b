//! From an HTTP request to an HTTP response.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};

use super::discovery;
use super::encoding::{Encoding, Format, accepts_gzip};
use super::error::ApiError;
use super::faults::Failure;
use super::list;
use super::protobuf;
use super::query::{ListOptions, Query};
use super::requests::Verb;
use super::respond::{self, Body, full};
use super::route::{ResourcePath, Route};
use super::selector::Selector;
use super::shared::Shared;
use super::watch::Watch;
use super::write::{self, PatchKind};

/// The largest body of a request in bytes; a real server takes about 3 MB.
const MAX_BODY: usize = 16 << 20;

type Answer = Result<Response<Body>, ApiError>;

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
    shared.log().arrived(verb, &resource, &request);
    let kind = match &route {
        Route::Resource(path) => Some(path.kind),
        _ => None,
    };
    let negotiated = Encoding::negotiate(request.headers(), kind, shared.faults().negotiation);
    let encoding = negotiated.clone().unwrap_or_default();
    let (delay, failure) = {
        let mut faults = shared.faults();
        let authorization = request.headers().get("authorization").map(HeaderValue::as_bytes);
        let failure = if faults.refuses(authorization) {
            Some(Failure::new(401))
        } else {
            faults.take_failure(verb, &resource)
        };
        (faults.delay, failure)
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let answer = match failure {
        Some(failure) if failure.is_unanswered() => return std::future::pending().await,
        Some(failure) => {
            let (error, retry_after) = failure.answer();
            let mut response = respond::error(&error, encoding);
            if let Some(value) = retry_after.and_then(|text| HeaderValue::try_from(text).ok()) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            Ok(response)
        }
        None => match negotiated {
            Ok(encoding) => dispatch(&shared, route, verb, &query, request, encoding).await,
            Err(error) => Err(error),
        },
    };
    let response = answer.unwrap_or_else(|error| respond::error(&error, encoding));
    shared.log().answered(verb, &resource, &response);
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
    encoding: Encoding,
) -> Answer {
    let document = match route {
        Route::Resource(path) => {
            return resource(shared, path, verb, query, request, encoding).await;
        }
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
    document.map(|value| respond::json(StatusCode::OK, &value)).ok_or(ApiError::from_code(404))
}

async fn resource(
    shared: &Arc<Shared>,
    path: ResourcePath,
    verb: Verb,
    query: &Query,
    request: Request<Incoming>,
    encoding: Encoding,
) -> Answer {
    match verb {
        Verb::Get => {
            let name = path.name.as_deref().unwrap_or("");
            let store = shared.store();
            let object = store.get(path.kind, path.namespace.as_deref().unwrap_or(""), name);
            let object = object.ok_or_else(|| ApiError::not_found(path.kind.get(), name))?;
            let mut bytes = object.encoded(encoding).clone();
            if encoding.format == Format::Protobuf {
                let kind = path.kind.get();
                bytes = Bytes::from(protobuf::wrap(&kind.api_version(), kind.kind, &bytes));
            }
            Ok(full(StatusCode::OK, encoding.content_type(), bytes))
        }
        Verb::List => {
            let options = ListOptions::parse(query)?;
            let selector = selector_of(&path, query)?;
            let body = list::list(&mut shared.store(), path.kind, &selector, &options, encoding)?;
            Ok(respond::list(body, encoding, accepts_gzip(request.headers())))
        }
        Verb::Watch => {
            let options = ListOptions::parse(query)?;
            let selector = selector_of(&path, query)?;
            let watch = Watch::open(shared, path.kind, selector, &options, encoding)?;
            let chunks = stream::unfold(watch, |mut watch| async {
                let chunk = watch.next().await?;
                Some((chunk.map(Frame::data), watch))
            });
            Ok(respond::streamed(encoding.watch_content_type(), chunks))
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
            respond::json(StatusCode::OK, &write::delete(&mut store, path, name, &body)?)
        }
        (Verb::DeleteCollection, _) => {
            let selector = selector_of(path, query)?;
            let status = write::delete_collection(&mut store, path.kind, &selector);
            respond::json(StatusCode::OK, &status)
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
