//! The paths and queries of lists and watches.

use std::fmt::Write as _;
use std::ops::Deref;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Resource;
use kube_proxy_core::Kind;

use crate::slim::Labels;

/// Objects per page of a list.
const PAGE: u32 = 500;

/// A path with its query.
#[derive(Debug)]
pub(super) struct Request(String);

impl Deref for Request {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Request {
    /// One page of a list, the first without a token; without `paging` all of it. The newest state is asked for.
    pub(super) fn page(kind: Kind, node_name: &str, token: &str, paging: bool) -> Self {
        let mut request = Self::new(kind, node_name);
        if paging {
            request.add("limit", &PAGE.to_string());
        }
        if !token.is_empty() {
            request.add("continue", token);
        }
        request
    }

    /// A watch that begins with everything there is and marks where that ends (KEP-3157).
    pub(super) fn streaming_list(kind: Kind, node_name: &str, timeout: u64) -> Self {
        let mut request = Self::watching(kind, node_name, timeout);
        request.add("sendInitialEvents", "true");
        request.add("resourceVersionMatch", "NotOlderThan");
        request
    }

    /// A watch of what happens after a version.
    pub(super) fn watch(kind: Kind, node_name: &str, version: &str, timeout: u64) -> Self {
        let mut request = Self::watching(kind, node_name, timeout);
        request.add("resourceVersion", version);
        request
    }

    fn watching(kind: Kind, node_name: &str, timeout: u64) -> Self {
        let mut request = Self::new(kind, node_name);
        request.add("watch", "true");
        request.add("allowWatchBookmarks", "true");
        request.add("timeoutSeconds", &timeout.to_string());
        request
    }

    /// The path of a kind and its selectors (semantics §2.1).
    fn new(kind: Kind, node_name: &str) -> Self {
        let path = match kind {
            Kind::Service => Service::url_path(&(), None),
            Kind::EndpointSlice => EndpointSlice::url_path(&(), None),
            Kind::Node => Node::url_path(&(), None),
            Kind::ServiceCidr => ServiceCIDR::url_path(&(), None),
        };
        let mut request = Self(path + "?");
        match kind {
            Kind::Service => {
                request.add("labelSelector", &format!("!{}", Labels::SERVICE_PROXY_NAME));
                request.add("fieldSelector", "spec.clusterIP!=None");
            }
            Kind::EndpointSlice => {
                request.add("labelSelector", &format!("!{}", Labels::HEADLESS));
            }
            Kind::Node => request.add("fieldSelector", &format!("metadata.name={node_name}")),
            Kind::ServiceCidr => {}
        }
        request
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.0.ends_with('?') {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(byte.into());
            } else {
                // Writing to a string cannot fail.
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
