//! `kube-proxy explain`: what becomes of new connections to a destination, and why.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::changes;
use super::names::{self, frontend, kind, service_port};
use super::offline::{Offline, families};
use super::output::{Output, Style};
use super::print;
use super::server::Server;
use super::table::{Table, WIDTH};
use crate::debug::{Explanation, Family, Path, Session, UnusedReason, explain_offline};

/// Says what becomes of a new connection, and why
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where it goes: IP:port, namespace/service, namespace/service:port, a DNS name of a Service or :nodePort; with /udp or /sctp behind it for that protocol alone
    destination: String,
    /// Where it comes from: pod (any of this node), node, outside, or an IP address; by default pod for cluster IPs and outside for the rest
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,
    /// Also compare its rules on the node with what they should be, which lists all rules
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    offline: Offline,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { destination, from, verify, output, server, offline } = arguments;
    let explanation: Explanation = if offline.is_given() {
        let (loaded, listing) = offline.read().await?;
        let config = &loaded.effective;
        let families = families(config, &listing)?;
        let (node, mode) = (&config.node_name, config.mode.name());
        explain_offline(node, mode, &families, from.as_deref(), destination)
            .map_err(anyhow::Error::msg)?
    } else {
        let mut parameters = vec![("to", destination.as_str())];
        parameters.extend(from.as_deref().map(|from| ("from", from)));
        parameters.push(("counters", "true"));
        parameters.extend(verify.then_some(("verify", "true")));
        server.get("/debug/explain", &parameters).await?
    };
    let text = match output.for_programs(&explanation)? {
        Some(text) => text,
        None => text(&explanation, destination, Style::of_stdout()),
    };
    let code = print(&text);
    // A script can tell by the exit code that nothing is known of the destination.
    Ok(if explanation.paths.is_empty() { ExitCode::FAILURE } else { code })
}

fn text(explanation: &Explanation, destination: &str, style: Style) -> String {
    let mut text = String::new();
    for warning in &explanation.warnings {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{} {warning}", style.strong("Warning:"));
    }
    for path in &explanation.paths {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &self::path(path, &explanation.families, style);
    }
    if explanation.paths.is_empty() {
        let _ = writeln!(text, "Nothing on this node has the destination {destination:?}.");
        let similar: Vec<String> = explanation.similar.iter().map(service_port).collect();
        let next = if similar.is_empty() {
            "kube-proxy services lists what this node serves".to_owned()
        } else {
            format!("perhaps one of these is meant: {}", similar.join(", "))
        };
        let _ = writeln!(text, "{} {next}", style.strong("Next:"));
    }
    text
}

fn path(path: &Path, families: &[Family], style: Style) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{} {value}", style.strong(&format!("{name:<13}")));
    };
    if let (Some(port), Some(asked)) = (&path.service_port, &path.frontend) {
        line("Service", &service_port(&port.id));
        line("Frontend", &format!("{} {}", kind(asked.kind), frontend(asked, &port.id.protocol)));
        let policy = path.policy.map(|policy| format!("{policy:?}")).unwrap_or_default();
        let why = if path.short_circuit {
            ": Local does not count for this node and its pods"
        } else {
            ""
        };
        line("Policy", &format!("{policy}{why}"));
        if let Some(spill) = &path.spill {
            line("Zone spill", spill);
        }
        if let Some(allowed) = path.source_allowed {
            let verdict = if allowed { "the source is in" } else { "the source is in none of" };
            line("Source ranges", &format!("{verdict} {}", port.source_ranges.join(", ")));
        }
        if let Some(algorithm) = &port.lb_algorithm {
            line("Algorithm", algorithm);
        }
        if let Some(fast_path) = port.fast_path {
            line("Fast path", names::fast_path(fast_path));
        }
        if let Some(seconds) = port.session_affinity_seconds {
            line("Affinity", &format!("a client keeps its endpoint for {seconds} s"));
        }
        if let Some(session) = &path.session {
            line("Session", &self::session(session));
        }
        let counted = port.counters.as_ref().map(names::counters).filter(|text| !text.is_empty());
        if let Some(counted) = counted {
            line("Since start", &counted);
        }
        if let Some(last) = changes::last(port, families, jiff::Timestamp::now()) {
            line("Last change", &last);
        }
    }
    if let Some(masquerade) = &path.masquerade {
        let done = if masquerade.masqueraded { "masqueraded" } else { "kept" };
        line("Client address", &format!("{done}: {}", masquerade.reason));
    }
    match path.differences.as_deref() {
        None => {}
        Some([]) => line("On the node", "its rules are there as they should be"),
        Some(differences) => {
            for difference in differences {
                line("On the node", &difference.text());
            }
        }
    }
    for near in &path.nearest {
        let what = service_port(&near.service_port);
        line("Near", &format!("{what} at {}: {}", near.frontend, near.relation));
    }
    for connections in path.connections.iter().flatten() {
        let remark = if connections.unused { ", which takes no new ones" } else { "" };
        line("Connections", &format!("{} to {}{remark}", connections.count, connections.endpoint));
    }
    if !path.endpoints.is_empty() {
        text += &endpoints(path).render(style, Some(WIDTH));
    }
    let _ = writeln!(text, "{}", path.summary);
    for advice in &path.advice {
        let _ = writeln!(text, "{} {advice}.", style.strong("Next:"));
    }
    text
}

fn session(session: &Session) -> String {
    match session {
        Session::Found { endpoint, seconds_left, followed } => {
            let remark =
                if *followed { "" } else { ", which takes no new ones: another is chosen" };
            format!("{endpoint} for another {seconds_left} s{remark}")
        }
        Session::None => "none: an endpoint is chosen, and kept from then on".to_owned(),
        Session::Unknown { why } => format!("not known: {why}"),
    }
}

fn endpoints(path: &Path) -> Table {
    let mut table = Table::new(&["ENDPOINT", "HERE", "USED", "WHY NOT"]);
    for endpoint in &path.endpoints {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let why = endpoint.unused.map_or("", UnusedReason::text);
        let weight = endpoint.weight.map_or(String::new(), |weight| format!(", weight {weight}"));
        let address = format!("{}{weight}", endpoint.address);
        table.row([address, yes(endpoint.local), yes(endpoint.unused.is_none()), why.to_owned()]);
    }
    table
}
