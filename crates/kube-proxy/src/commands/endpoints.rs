//! `kube-proxy endpoints`: every endpoint of a Service, and which frontends use it.

use std::process::ExitCode;

use anyhow::bail;

use super::changes;
use super::names::{kind, port_of};
use super::output::{Output, Style};
use super::print;
use super::server::Server;
use super::table::{Table, WIDTH};
use crate::debug::{Endpoint, ServicePortId, Services, UnusedReason, weight_text};

/// Lists the endpoints of a Service with their state, and whether this node uses them
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The Service, as namespace/name; in any namespace without one
    service: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { service, output, server } = arguments;
    let mut parameters = Vec::new();
    match service.split_once('/') {
        Some((namespace, name)) => parameters.extend([("namespace", namespace), ("name", name)]),
        None => parameters.push(("name", service)),
    }
    let services: Services = server.get("/debug/services", &parameters).await?;
    if services.service_ports.is_empty() {
        bail!(
            "this node serves no Service {service}; kube-proxy services lists those that it does"
        );
    }
    if let Some(text) = output.for_programs(&services)? {
        return Ok(print(&text));
    }
    let most = Some(WIDTH).filter(|_| !output.is_wide());
    let style = Style::of_stdout();
    Ok(print(&(table(&services).render(style, most) + &last_changes(&services, style))))
}

fn table(services: &Services) -> Table {
    let mut table =
        Table::new(&["SERVICE", "ENDPOINT", "STATE", "HERE", "USED FOR", "WHY NOT FOR ALL"]);
    for port in &services.service_ports {
        for endpoint in &port.endpoints {
            let here = if endpoint.local { "yes" } else { "no" }.to_owned();
            let address = endpoint.address.to_string();
            let (used, unused) = (used_for(endpoint), reasons(endpoint));
            table.row([port_of(&port.id), address, state(endpoint), here, used, unused]);
        }
        if port.endpoints.is_empty() {
            table.row([port_of(&port.id), format!("no {} endpoints", port.family)]);
        }
    }
    table
}

/// The last change of each service port; the ports of a Service change together.
fn last_changes(services: &Services, style: Style) -> String {
    let now = jiff::Timestamp::now();
    let mut lines: Vec<String> = Vec::new();
    for port in &services.service_ports {
        let ServicePortId { namespace, name, .. } = &port.id;
        let Some(last) = changes::last(port, &services.families, now) else { continue };
        let family = &port.family;
        let line = format!("{} {namespace}/{name} {family}: {last}\n", style.strong("Last change"));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

fn state(endpoint: &Endpoint) -> String {
    let state = match (endpoint.ready, endpoint.terminating, endpoint.serving) {
        (true, false, _) => "ready",
        (true, true, _) => "ready, terminating",
        (false, false, _) => "not ready",
        (false, true, true) => "terminating",
        (false, true, false) => "terminating, not serving",
    };
    match weight_text(endpoint.weight, endpoint.slow_start) {
        Some(weight) => format!("{state}, {weight}"),
        None => state.to_owned(),
    }
}

fn used_for(endpoint: &Endpoint) -> String {
    let used = endpoint.selections.iter().filter(|selection| selection.unused.is_none());
    // Under the external policy Local, only this node and its pods get to endpoints elsewhere by external frontends.
    let kinds = used.flat_map(|s| {
        if s.frontends.is_empty() {
            vec!["this node"]
        } else {
            s.frontends.iter().map(|k| kind(*k)).collect()
        }
    });
    let kinds: Vec<&str> = kinds.collect();
    if kinds.is_empty() { "-".to_owned() } else { kinds.join(", ") }
}

/// Why it is not used for all, or not for all that it could have.
fn reasons(endpoint: &Endpoint) -> String {
    let unused = endpoint.selections.iter().filter_map(|s| s.unused).map(UnusedReason::text);
    let mut texts: Vec<String> = unused.map(str::to_owned).collect();
    texts.dedup();
    texts.extend(endpoint.slow_start.map(|step| step.to_string()));
    texts.join("; ")
}
