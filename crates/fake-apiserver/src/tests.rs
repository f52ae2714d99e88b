//! Tests of the server over real HTTP.

mod client;
mod consistency;
mod discovery;
mod faults;

mod list;
mod watch;
mod write;

use std::net::TcpListener;

use serde_json::{Value, json};

use super::{ApiServer, Options};

/// A server with default options.
fn server() -> ApiServer {
    server_with(Options::default())
}

fn server_with(options: Options) -> ApiServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let rebind = Box::new(move || TcpListener::bind(address));
    ApiServer::on_listener(listener, rebind, options).unwrap()
}

fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn labelled(name: &str, label: &str) -> Value {
    let mut object = service("default", name);
    object["metadata"]["labels"] = json!({label: "1"});
    object
}
