//! `kube-proxy trace`: follows real packets through the rules of the kernel.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube_proxy_netlink::nf_tables::{NfTables, Step, Tracer};
use kube_proxy_netlink::{Error, Family};
use tokio::signal::unix::{SignalKind, signal};

use super::flows::Format;
use super::frontends;
use super::server::Server;
use super::{note, print};
use crate::debug::Services;
use crate::tasks;

mod marks;
mod packet;
mod terms;

use marks::Marks;
use packet::Packet;
use terms::Terms;

/// A packet that has not been seen for so long will not be seen again.
const QUIET: Duration = Duration::from_secs(1);
/// How often packets are looked through for those.
const LOOK: Duration = Duration::from_millis(250);

/// Follows packets to a Service through the rules of this node, step by step, and says what each step is
///
/// It waits for packets that begin connections; it sends none. Needs `CAP_NET_ADMIN` in the network namespace of the node.
/// The rule that marks packets is in a table of its own, kube-proxy-trace, which the kernel deletes when this command ends, however it ends.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the packets go: IP:PORT[/PROTOCOL], :NODEPORT[/PROTOCOL], or [NAMESPACE/]SERVICE[:PORT]
    #[arg(long, value_name = "DESTINATION")]
    to: String,
    /// Only packets from this address
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// How many packets to follow
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// How to print: a text for each packet, or one JSON object a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let services = arguments.server.get::<Services>("/debug/services", &[("endpoints", "none")]);
    let services = match services.await {
        Ok(services) => Some(services),
        Err(error) => {
            note(&format!("names of Services are not known: {error:#}"));
            None
        }
    };
    let destinations = frontends::destinations(&arguments.to, services.as_ref())?;
    let mut netlink = NfTables::open(Family::V4).context(NEEDS)?;
    if let Some(reason) = impossible(services.as_ref(), &mut netlink)? {
        bail!("{reason}");
    }
    let (tracer, stop) = Tracer::open().context(NEEDS)?;
    let marks = Marks::set(&destinations, arguments.from)?;
    let at = if marks.is_owned() { "" } else { ", removed when this command ends" };
    note(&format!("waiting for packets to {} (table {}{at})", arguments.to, marks::TABLE));
    let arguments = arguments.clone();
    let follow = tasks::blocking("trace", move || {
        let mut followed = Followed::new(&arguments, Terms::of(services.as_ref()));
        followed.run(tracer)
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let result = {
        tokio::pin!(follow);
        tokio::select! {
            result = &mut follow => result,
            () = async { tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} } } => {
                stop.stop();
                follow.await
            }
        }
    };
    marks.remove();
    result
}

const NEEDS: &str =
    "packets cannot be traced; this needs CAP_NET_ADMIN in the network namespace of the node";

/// Why packets of this mode cannot be followed here, in a sentence; `None` if they can.
fn impossible(
    services: Option<&Services>,
    netlink: &mut NfTables,
) -> anyhow::Result<Option<String>> {
    let Some(services) = services else { return Ok(None) };
    match services.mode.as_str() {
        "nftables" => return Ok(None),
        "ipvs" => {
            return Ok(Some(
                "ipvs mode: IP virtual server chooses the endpoint, and the kernel has no trace of it; ipvsadm -Lnc shows the connections"
                    .to_owned(),
            ));
        }
        _ => {}
    }
    let chains = netlink.chains("nat").context(NEEDS)?;
    let ours = |name: &str| name == "KUBE-SERVICES" || name == "KUBE-PORTALS-CONTAINER";
    if chains.iter().any(|chain| ours(&chain.name)) {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} mode with iptables-legacy: its rules are not in nf_tables, whose trace this command reads; insert -j TRACE into the table raw yourself, and read the kernel's log (needs nf_log_ipv4)",
        services.mode
    )))
}

/// Packets under way, and how many were shown.
struct Followed<'a> {
    arguments: &'a Arguments,
    terms: Terms,
    packets: Vec<(u32, Instant, Packet)>,
    shown: usize,
    code: ExitCode,
}

impl<'a> Followed<'a> {
    fn new(arguments: &'a Arguments, terms: Terms) -> Self {
        Self { arguments, terms, packets: Vec::new(), shown: 0, code: ExitCode::SUCCESS }
    }

    /// Until enough were shown, or the user stops it.
    fn run(&mut self, mut tracer: Tracer) -> anyhow::Result<ExitCode> {
        while self.shown < self.arguments.count {
            let result = tracer.wait(Some(LOOK), |step| self.take(step));
            let running = match result {
                Ok(running) => running,
                Err(Error::Lost { .. }) => {
                    note(
                        "some steps were lost, as there were too many at once: narrow it with --from",
                    );
                    true
                }
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            let over = |at: &Instant| !running || now.duration_since(*at) >= QUIET;
            while let Some(index) = self.packets.iter().position(|(_, at, _)| over(at)) {
                let (.., packet) = self.packets.remove(index);
                self.show(&packet);
            }
            if !running {
                break;
            }
        }
        Ok(self.code)
    }

    fn take(&mut self, step: &Step<'_>) {
        // A packet begins where it is marked.
        let is_new = !self.packets.iter().any(|(id, ..)| *id == step.id);
        if step.table == marks::TABLE && is_new {
            self.packets.push((step.id, Instant::now(), Packet::default()));
        }
        let known = self.packets.iter_mut().find(|(id, ..)| *id == step.id);
        // What others trace is none of ours.
        if let Some((_, at, packet)) = known {
            *at = Instant::now();
            packet.add(step, &self.terms);
        }
    }

    fn show(&mut self, packet: &Packet) {
        if self.shown == self.arguments.count {
            return;
        }
        self.shown += 1;
        let text = match self.arguments.output {
            Format::Text => packet.text(self.shown),
            Format::Json => serde_json::to_string(packet).unwrap_or_default() + "\n",
        };
        self.code = print(&text);
    }
}
