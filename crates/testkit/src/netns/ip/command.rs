//! The commands that are understood, and how they are written.

use std::net::IpAddr;

use ipnet::IpNet;

pub(super) type LinkAddress = [u8; 6];

/// A command that is understood here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    AddBridge { name: &'a str, address: Option<LinkAddress> },
    AddVeth { name: &'a str, peer: &'a str, address: Option<LinkAddress>, netns: &'a str },
    SetUp { name: &'a str, master: Option<&'a str> },
    DeleteLink { name: &'a str },
    AddAddress { net: IpNet, device: &'a str, no_dad: bool },
    Route { replace: bool, net: IpNet, to: To<'a> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To<'a> {
    Gateway(IpAddr),
    Device(&'a str),
    Nowhere,
}

/// What a line asks for; `None` when it is not understood.
pub(super) fn parse(line: &str) -> Option<Command<'_>> {
    let words: Vec<&str> = line.split(' ').collect();
    Some(match words[..] {
        ["link", "set", name, "up"] => Command::SetUp { name, master: None },
        ["link", "set", name, "master", master, "up"] => {
            Command::SetUp { name, master: Some(master) }
        }
        ["link", "del", name] => Command::DeleteLink { name },
        ["link", "add", name, "type", "bridge", "mcast_snooping", "0"] => {
            Command::AddBridge { name, address: None }
        }
        ["link", "add", name, "address", address, "type", "bridge", "mcast_snooping", "0"] => {
            Command::AddBridge { name, address: Some(link_address(address)?) }
        }
        ["link", "add", name, "type", "veth", "peer", "name", peer, "netns", netns] => {
            Command::AddVeth { name, peer, address: None, netns }
        }
        [
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            peer,
            "address",
            address,
            "netns",
            netns,
        ] => Command::AddVeth { name, peer, address: Some(link_address(address)?), netns },
        ["addr", "add", net, "dev", device] => {
            Command::AddAddress { net: net.parse().ok()?, device, no_dad: false }
        }
        ["addr", "add", net, "dev", device, "nodad"] => {
            Command::AddAddress { net: net.parse().ok()?, device, no_dad: true }
        }
        ["route", how @ ("add" | "replace"), ref route @ ..] => {
            let (net, to) = parse_route(route)?;
            Command::Route { replace: how == "replace", net, to }
        }
        _ => return None,
    })
}

fn parse_route<'a>(words: &[&'a str]) -> Option<(IpNet, To<'a>)> {
    match *words {
        ["blackhole", net] => Some((net.parse().ok()?, To::Nowhere)),
        [net, "dev", device] => Some((net.parse().ok().or_else(|| host(net))?, To::Device(device))),
        [net, "via", gateway] => {
            let gateway: IpAddr = gateway.parse().ok()?;
            let net = match (net, gateway) {
                ("default", IpAddr::V4(_)) => "0.0.0.0/0",
                ("default", IpAddr::V6(_)) => "::/0",
                (net, _) => net,
            };
            Some((net.parse().ok().or_else(|| host(net))?, To::Gateway(gateway)))
        }
        _ => None,
    }
}

/// An address alone stands for the network of it alone.
fn host(address: &str) -> Option<IpNet> {
    address.parse::<IpAddr>().ok().map(IpNet::from)
}

fn link_address(text: &str) -> Option<LinkAddress> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests;
