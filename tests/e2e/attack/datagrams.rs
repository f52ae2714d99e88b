//! Datagrams of every size: empty, as long as a packet, and as long as can be, which goes in fragments.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;

use super::Siege;
use crate::objects::Svc;
use crate::world::{From, Mode, World, cluster_address};

const NUMBER: u8 = 20;
const PORT: u16 = 9_999;
/// The last is the most that IPv4 can carry.
const SIZES: [usize; 6] = [0, 1, 1_472, 1_473, 9_000, 65_507];
/// Far beyond what an answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each comes back as it was, over the cluster IP and the node port, from an endpoint of this node and of another one.
pub(super) fn of_every_size(mode: Mode) -> anyhow::Result<()> {
    let siege = Siege::begin(mode)?;
    let world = &siege.world;
    let service = Svc::new("echo", NUMBER).udp().node_port();
    for pod in ["local-1", "remote-1"] {
        for family in IpFamily::BOTH {
            echo(world, pod, family)?;
        }
        world.apply([service.object()])?;
        world.apply(service.slices(PORT, &world.endpoints(&[pod])))?;
        siege.holds()?;
        for family in IpFamily::BOTH {
            let ways = [
                (From::Pod("client"), cluster_address(NUMBER, family)),
                (From::Outside, world.node_port(NUMBER, family)),
            ];
            for (from, to) in ways {
                exchange(world, from, to).with_context(|| format!("{from:?} to {pod} at {to}"))?;
            }
        }
    }
    siege.end()
}

/// Sends back whatever comes, until the namespace goes.
fn echo(world: &World, pod: &str, family: IpFamily) -> anyhow::Result<()> {
    let pod = world.pod(pod);
    let socket = pod.netns().run(|| UdpSocket::bind(pod.address(family, PORT)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(())
}

fn exchange(world: &World, from: From, to: SocketAddr) -> anyhow::Result<()> {
    let netns = match from {
        From::Pod(name) => world.pod(name).netns(),
        From::Node => world.cluster.node(0).netns(),
        From::Outside => world.cluster.client().netns(),
    };
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = netns.run(|| UdpSocket::bind(any))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for size in SIZES {
        let sent: Vec<u8> =
            (0..size).map(|byte| u8::try_from(byte % 251).unwrap_or_default()).collect();
        socket.send(&sent)?;
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer).with_context(|| format!("{size} bytes"))?;
        ensure!(
            buffer[..length] == sent,
            "{length} bytes came back, not the {size} that were sent"
        );
    }
    Ok(())
}
