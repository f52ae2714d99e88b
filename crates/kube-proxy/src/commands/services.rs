//! `kube-proxy services`: what this node serves.

use std::process::ExitCode;

use super::changes;
use super::names::{frontend, port_of, refused};
use super::output::{Output, Style};
use super::print;
use super::server::Server;
use super::table::{Table, WIDTH};
use crate::debug::{Frontend, FrontendKind, ServicePort, Services};

/// Lists what this node serves: frontends, policies, endpoints used, ready and all, and how long ago they changed
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only Services of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { namespace, output, server } = arguments;
    let programs = output.for_programs(&())?.is_some();
    let mut parameters = vec![("endpoints", if programs { "all" } else { "none" })];
    if programs || output.is_wide() {
        parameters.push(("counters", "true"));
    }
    parameters.extend(namespace.as_deref().map(|namespace| ("namespace", namespace)));
    let services: Services = server.get("/debug/services", &parameters).await?;
    if let Some(text) = output.for_programs(&services)? {
        return Ok(print(&text));
    }
    let most = Some(WIDTH).filter(|_| !output.is_wide());
    Ok(print(&table(&services, output.is_wide()).render(Style::of_stdout(), most)))
}

fn table(services: &Services, wide: bool) -> Table {
    let mut headings =
        vec!["NAMESPACE", "SERVICE", "FRONTENDS", "POLICY", "USED/READY/ALL", "CHANGED"];
    if wide {
        headings.extend(["AFFINITY", "SOURCE-RANGES", "CONNECTIONS", "REFUSED"]);
    }
    let mut table = Table::new(&headings);
    let now = jiff::Timestamp::now();
    for port in &services.service_ports {
        let id = &port.id;
        let endpoints =
            format!("{}/{}/{}", port.endpoints_used, port.endpoints_ready, port.endpoints_total);
        let mut row =
            vec![id.namespace.clone(), port_of(id), frontends(port, wide), policy(port), endpoints];
        row.push(changes::age(port, &services.families, now));
        if wide {
            let affinity = port.session_affinity_seconds;
            row.push(affinity.map_or("-".to_owned(), |seconds| format!("{seconds}s")));
            let ranges = port.source_ranges.join(",");
            row.push(if ranges.is_empty() { "-".to_owned() } else { ranges });
            let counters = port.counters.clone().unwrap_or_default();
            row.push(counters.connections.map_or("-".to_owned(), |count| count.to_string()));
            row.push(refused(&counters).unwrap_or_else(|| "-".to_owned()));
        }
        table.row(row);
    }
    table
}

/// The frontends: the cluster IP and the node port, others by their number unless there is room.
/// An exclamation mark is before those that another service port has.
fn frontends(port: &ServicePort, wide: bool) -> String {
    let text = |shown: &Frontend| {
        let contested = if shown.owner.is_some() { "!" } else { "" };
        format!("{contested}{}", frontend(shown, &port.id.protocol))
    };
    let shown = |frontend: &&Frontend| {
        wide || matches!(frontend.kind, FrontendKind::ClusterIp | FrontendKind::NodePort)
    };
    let mut texts: Vec<String> = port.frontends.iter().filter(shown).map(text).collect();
    let hidden = port.frontends.len() - texts.len();
    if hidden > 0 {
        texts.push(format!("+{hidden}"));
    }
    texts.join(" ")
}

fn policy(port: &ServicePort) -> String {
    let internal = format!("{:?}", port.internal_traffic_policy);
    match port.external_traffic_policy {
        Some(external) => format!("{internal}/{external:?}"),
        None => internal,
    }
}
