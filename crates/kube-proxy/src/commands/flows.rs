//! `kube-proxy flows`: connections through Services, from connection tracking.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use kube_proxy_netlink::Family;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow, FlowEvent, Monitor, Status};
use serde::{Deserialize, Serialize};

use super::frontends::{Names, is_meant, protocol_name};
use super::names::service_port;
use super::server::Server;
use super::{note, print};
use crate::debug::{ServicePortId, Services};
use crate::tasks;

/// Lists connections through Services as the kernel tracks them; with --follow also those that begin and end
///
/// Needs `CAP_NET_ADMIN` in the network namespace of the node.
/// Attempts that are refused or dropped are no connections and are not listed: kube-proxy trace shows where they end.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only those of this Service
    #[arg(long, value_name = "[NAMESPACE/]NAME[:PORT]")]
    service: Option<String>,
    /// Only those from this address
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// After those that exist, each that begins, is answered, or ends, until interrupted
    #[arg(long)]
    follow: bool,
    /// How to print: columns, or one JSON object a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// The formats of a command that prints line by line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One line each.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    event: Event,
    protocol: String,
    /// Who opened it.
    client: SocketAddr,
    /// What the client sent to.
    frontend: SocketAddr,
    /// What answers instead; in userspace mode the port of kube-proxy, which copies the connection.
    endpoint: SocketAddr,
    /// The endpoint sees another source address than the client's.
    masqueraded: bool,
    /// Packets came back.
    answered: bool,
    service: ServicePortId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Exists,
    Began,
    Answered,
    Ended,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let services: Services =
        arguments.server.get("/debug/services", &[("endpoints", "none")]).await?;
    if services.mode == "userspace" {
        note(
            "userspace mode: kube-proxy copies connections, so the endpoint is its own listening port; endpoints have their own connections from this node",
        );
    }
    let arguments = arguments.clone();
    tasks::blocking("flows", move || follow(&arguments, &Names::of(&services))).await
}

fn follow(arguments: &Arguments, names: &Names) -> anyhow::Result<ExitCode> {
    // Opened before the listing, so that no flow falls between.
    let monitor = arguments.follow.then(Monitor::open).transpose().context(NEEDS)?;
    let mut shown = Shown { arguments, names, answered: HashSet::new(), code: ExitCode::SUCCESS };
    shown.list()?;
    let Some((mut monitor, _stop)) = monitor else { return Ok(shown.code) };
    loop {
        let mut missed = false;
        monitor.wait(None, |event| missed |= !shown.event(&event))?;
        if missed {
            note(
                "some events were lost, as there were too many at once; these are the connections that exist now:",
            );
            shown.answered.clear();
            shown.list()?;
        }
    }
}

const NEEDS: &str = "connection tracking cannot be read; this needs CAP_NET_ADMIN in the network namespace of the node";

struct Shown<'a> {
    arguments: &'a Arguments,
    names: &'a Names,
    /// Those whose answer was shown, by their ids.
    answered: HashSet<u32>,
    code: ExitCode,
}

impl Shown<'_> {
    fn list(&mut self) -> anyhow::Result<()> {
        let mut table = Conntrack::open().context(NEEDS)?;
        for family in [Family::V4, Family::V6] {
            let mut flows = Vec::new();
            let _ = table.dump(&Filter::family(family), |flow| flows.push(*flow)).context(NEEDS)?;
            // An interrupted dump names some twice.
            let mut seen = HashSet::new();
            flows.retain(|flow| seen.insert((flow.original, flow.id)));
            for flow in &flows {
                self.show(Event::Exists, flow);
            }
        }
        Ok(())
    }

    /// `false` if events were lost.
    fn event(&mut self, event: &FlowEvent) -> bool {
        match event {
            FlowEvent::Missed => return false,
            FlowEvent::Began(flow) => self.show(Event::Began, flow),
            FlowEvent::Changed(flow) => {
                let answered = flow.status.contains(Status::SEEN_REPLY);
                if answered && flow.id.is_some_and(|id| !self.answered.contains(&id)) {
                    self.show(Event::Answered, flow);
                }
            }
            FlowEvent::Ended(flow) => {
                self.show(Event::Ended, flow);
                if let Some(id) = flow.id {
                    self.answered.remove(&id);
                }
            }
        }
        true
    }

    fn show(&mut self, event: Event, flow: &Flow) {
        let Some(line) = line(event, flow, self.names) else { return };
        let arguments = self.arguments;
        let meant = arguments.service.as_ref().is_none_or(|text| is_meant(text, &line.service))
            && arguments.from.is_none_or(|ip| ip == line.client.ip());
        if !meant {
            return;
        }
        if line.answered && event != Event::Ended {
            self.answered.extend(flow.id);
        }
        let text = match arguments.output {
            Format::Text => line.text(),
            Format::Json => serde_json::to_string(&line).unwrap_or_default() + "\n",
        };
        self.code = print(&text);
    }
}

/// What a flow is to Services; `None` if it goes through none.
fn line(event: Event, flow: &Flow, names: &Names) -> Option<Line> {
    let (client, frontend) = (flow.original.source_socket()?, flow.original.destination_socket()?);
    let endpoint = flow.reply.source_socket()?;
    let is_translated = endpoint != frontend;
    let service = names.service(flow.original.protocol, frontend, is_translated)?.clone();
    Some(Line {
        event,
        protocol: protocol_name(flow.original.protocol),
        client,
        frontend,
        endpoint,
        masqueraded: flow.reply.destination_socket()? != client,
        answered: flow.status.contains(Status::SEEN_REPLY),
        service,
    })
}

impl Line {
    fn text(&self) -> String {
        let Self { protocol, client, frontend, endpoint, service, .. } = self;
        let event = match self.event {
            Event::Exists => "exists  ",
            Event::Began => "began   ",
            Event::Answered => "answered",
            Event::Ended => "ended   ",
        };
        let mut remarks = String::new();
        if frontend == endpoint {
            remarks += ", to no endpoint";
        }
        if self.masqueraded {
            remarks += ", masqueraded";
        }
        if !self.answered {
            remarks += ", not answered";
        }
        format!(
            "{event} {protocol} {client} -> {} {frontend} -> {endpoint}{remarks}\n",
            service_port(service)
        )
    }
}

#[cfg(test)]
mod tests;
