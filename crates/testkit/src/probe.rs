//! Connections and datagrams from a namespace, and what became of them.

mod answer;
mod flow;
mod http;
mod sctp;
mod socket;
mod spread;

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

pub use self::answer::{Answer, Outcome};
pub use self::flow::{Connection, UdpFlow};
pub use self::http::HttpResponse;
pub use self::spread::Spread;
use crate::netns::Netns;

/// How long a probe waits unless told otherwise: long enough for a machine on which thirty programs take turns.
///
/// What is expected to stay silent is asked with a short [`Probe::timeout`].
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends probes from a namespace, to the servers of [`crate::pod::Responder`].
///
/// ```no_run
/// # fn example(cluster: &kube_proxy_testkit::cluster::Cluster) -> anyhow::Result<()> {
/// use std::time::Duration;
///
/// let client = cluster.client().probe().timeout(Duration::from_millis(300));
/// let answer = client.tcp("10.96.0.10:80".parse()?).answer()?;
/// assert_eq!(answer.pod, "web-1");
/// assert!(client.udp("10.96.0.10:81".parse()?).is_timed_out());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    netns: &'a Netns,
    options: Options,
}

/// What a socket is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) source: Option<IpAddr>,
    pub(crate) source_port: u16,
    pub(crate) timeout: Duration,
}

impl Netns {
    /// Connections and datagrams from this namespace.
    pub fn probe(&self) -> Probe<'_> {
        Probe::from(self)
    }
}

impl<'a> Probe<'a> {
    /// Probes from this namespace, with the address and port the kernel chooses.
    pub fn from(netns: &'a Netns) -> Self {
        let options = Options { source: None, source_port: 0, timeout: DEFAULT_TIMEOUT };
        Self { netns, options }
    }

    /// Sends from this address, which the namespace must have.
    #[must_use]
    pub fn source(mut self, address: IpAddr) -> Self {
        self.options.source = Some(address);
        self
    }

    /// Sends from this port.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.options.source_port = port;
        self
    }

    /// Waits this long, for the connection and again for the answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    pub(crate) fn options(&self) -> Options {
        self.options
    }

    pub(crate) fn netns(&self) -> &'a Netns {
        self.netns
    }

    /// Opens a TCP connection, reads who answers, and closes it.
    pub fn tcp(&self, address: SocketAddr) -> Outcome {
        self.netns.run(|| tcp_once(self.options, address))
    }

    /// Sends one datagram and waits for the answer to it.
    pub fn udp(&self, address: SocketAddr) -> Outcome {
        self.netns.run(|| udp_once(self.options, address))
    }

    /// Sends the first packet of an SCTP association and waits for what comes back; no kernel module is needed for it.
    ///
    /// On loopback, where nothing refuses it, the packet itself comes back: that is [`Outcome::Broken`].
    pub fn sctp(&self, address: SocketAddr) -> Outcome {
        self.netns.run(|| sctp::once(self.options, address))
    }

    /// Opens a TCP connection and keeps it.
    ///
    /// # Errors
    /// The [`Outcome`], if it is no answer.
    pub fn connect(&self, address: SocketAddr) -> anyhow::Result<Connection> {
        let connection = self.netns.run(|| Connection::open(self.options, address));
        connection.map_err(|outcome| anyhow::Error::new(*outcome))
    }

    /// Makes a UDP socket that sends to one address only, from one port: one flow for conntrack.
    ///
    /// # Errors
    /// The [`Outcome`], if the address cannot be sent to.
    pub fn udp_flow(&self, address: SocketAddr) -> anyhow::Result<UdpFlow> {
        let flow = self.netns.run(|| UdpFlow::open(self.options, address));
        flow.map_err(|outcome| anyhow::Error::new(*outcome))
    }

    /// Opens `count` TCP connections, one after the other, and counts who answered.
    pub fn spread(&self, address: SocketAddr, count: usize) -> Spread {
        self.netns.run(|| (0..count).map(|_| tcp_once(self.options, address)).collect())
    }

    /// Sends `count` datagrams, each from a socket of its own, and counts who answered.
    pub fn spread_udp(&self, address: SocketAddr, count: usize) -> Spread {
        self.netns.run(|| (0..count).map(|_| udp_once(self.options, address)).collect())
    }

    /// Like [`Self::spread`], with `workers` connections open at the same time.
    pub fn spread_parallel(&self, address: SocketAddr, count: usize, workers: usize) -> Spread {
        let workers = workers.max(1);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    let share = count / workers + usize::from(worker < count % workers);
                    scope.spawn(move || self.spread(address, share))
                })
                .collect();
            let parts = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            parts.collect::<Vec<_>>().into_iter().sum()
        })
    }

    /// Fetches a page with HTTP/1.1.
    ///
    /// # Errors
    /// When there is no connection, no answer in time, or none that is HTTP.
    pub fn http_get(&self, address: SocketAddr, path: &str) -> anyhow::Result<HttpResponse> {
        self.netns.run(|| http::get(self.options, address, path))
    }
}

fn tcp_once(options: Options, address: SocketAddr) -> Outcome {
    match Connection::open(options, address) {
        Ok(connection) => Outcome::Answer(connection.into_answer()),
        Err(outcome) => *outcome,
    }
}

fn udp_once(options: Options, address: SocketAddr) -> Outcome {
    match UdpFlow::open(options, address) {
        Ok(mut flow) => flow.ping(),
        Err(outcome) => *outcome,
    }
}
