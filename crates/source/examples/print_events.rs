//! Prints what a source says, and what is wrong with its objects.
//!
//! `cargo run -p kube-proxy-source --example print_events -- manifests PATH NODE`
//! `cargo run -p kube-proxy-source --example print_events -- kubeconfig PATH NODE`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use kube_proxy_source::{KubernetesOptions, KubernetesSource, ManifestSource, Problems, Sink};

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [which, path, node_name] = arguments.as_slice() else {
        return Err("usage: print_events manifests|kubeconfig PATH NODE".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(which, PathBuf::from(path), node_name))
}

async fn run(which: &str, path: PathBuf, node_name: &str) -> Result<(), Box<dyn Error>> {
    let sink: Sink = Arc::new(|event| println!("{event:?}"));
    let problems = Problems::new();
    if which == "manifests" {
        ManifestSource::new(path, node_name, problems)?.run(sink).await;
    } else {
        let options = KubernetesOptions {
            kubeconfig: Some(path),
            node_name: node_name.to_owned(),
            ..KubernetesOptions::default()
        };
        KubernetesSource::new(options, problems)?.run(sink).await;
    }
    Ok(())
}
