//! A pod: a namespace behind a node, and the servers that run in it.

mod responder;
mod talk;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use kube_proxy_core::{IpFamily, PerFamily};

pub use self::responder::{Responder, Serve};
use super::node::{Node, POD_BRIDGE};
use super::{plan, quiet_netns};
use crate::netns::Netns;
use crate::probe::Probe;

/// A pod of a cluster. Dropping it is an abrupt end: its packets vanish from that moment on.
#[derive(Debug)]
pub struct Pod {
    responder: Responder,
    netns: Netns,
    node: Arc<Node>,
    name: String,
    host: u8,
    /// Interface on the node that leads to the pod.
    port: String,
}

impl Pod {
    pub(crate) fn set_up(
        cluster: u32,
        node: &Arc<Node>,
        name: &str,
        host: u8,
    ) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let netns = quiet_netns(&format!("c{cluster}-pod-{number}"))?;
        let port = format!("veth{number}");
        let commands = format!(
            "link add {port} type veth peer name eth0 address {} netns {}\n\
             link set {port} master {} up",
            plan::link_address(node.plan_index(), host),
            netns.name(),
            POD_BRIDGE,
        );
        let context = || format!("cannot attach pod {name} to {}", node.name());
        node.netns().ip(&commands).with_context(context)?;
        netns.ip(&pod_commands(node.plan_index(), host)).with_context(context)?;
        let responder = Responder::start(&netns, name)?;
        Ok(Self { responder, netns, node: Arc::clone(node), name: name.to_owned(), host, port })
    }

    /// Interface on the node that leads to the pod.
    pub fn node_interface(&self) -> &str {
        &self.port
    }

    /// Name with which its servers answer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Node it runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its address.
    pub fn ip(&self, family: IpFamily) -> IpAddr {
        *self.addresses().get(family)
    }

    /// Its address and a port.
    pub fn address(&self, family: IpFamily, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    /// Host number of its addresses within the pod networks of its node.
    pub fn host_number(&self) -> u8 {
        self.host
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Connections and datagrams from this pod.
    pub fn probe(&self) -> Probe<'_> {
        self.netns.probe()
    }

    /// Answers TCP connections to this port on both families.
    pub fn serve_tcp(&self, port: u16) -> anyhow::Result<()> {
        self.serve(Serve::Tcp, port)
    }

    /// Answers datagrams to this port on both families.
    pub fn serve_udp(&self, port: u16) -> anyhow::Result<()> {
        self.serve(Serve::Udp, port)
    }

    /// Serves a small page over HTTP on this port on both families.
    pub fn serve_http(&self, port: u16) -> anyhow::Result<()> {
        self.serve(Serve::Http, port)
    }

    /// Stops accepting on this port; TCP connections already accepted continue.
    pub fn close(&self, serve: Serve, port: u16) {
        for family in IpFamily::BOTH {
            self.responder.close(serve, self.address(family, port));
        }
    }

    /// Ends all its servers and connections in order, with a FIN; the pod stays reachable.
    pub fn stop_servers(&mut self) {
        self.responder.stop();
    }

    /// Ends all its servers and connections with a RST; the pod stays reachable.
    pub fn abort_servers(&mut self) {
        self.responder.abort();
    }

    fn serve(&self, serve: Serve, port: u16) -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            self.responder.serve(serve, self.address(family, port))?;
        }
        Ok(())
    }

    fn addresses(&self) -> PerFamily<IpAddr> {
        plan::pod(self.node.plan_index(), self.host)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // First the link, so that the pod's sockets cannot say good-bye.
        // A failure means that the link is gone already; dropping must not panic.
        let _ = self.node.netns().ip(&format!("link del {}", self.port));
    }
}

fn pod_commands(node: u8, host: u8) -> String {
    let (own, gateway) = (plan::pod(node, host), plan::pod(node, 1));
    let mut commands = String::from("link set lo up\nlink set eth0 up\n");
    // Writing to a string cannot fail.
    let _ = writeln!(commands, "addr add {}/32 dev eth0", own.v4);
    let _ = writeln!(commands, "addr add {}/128 dev eth0 nodad", own.v6);
    let _ = writeln!(commands, "route add {} dev eth0", gateway.v4);
    let _ = writeln!(commands, "route add {} dev eth0", gateway.v6);
    let _ = writeln!(commands, "route add default via {}", gateway.v4);
    let _ = writeln!(commands, "route add default via {}", gateway.v6);
    commands
}
