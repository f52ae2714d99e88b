//! The commands of `ip` that clusters consist of, over rtnetlink.
//!
//! To start the program costs more than what it does, most of all in user-mode Linux, and a cluster takes some twenty runs of it.

mod command;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use ipnet::IpNet;
use kube_proxy_netlink::message::flags;
use kube_proxy_netlink::socket::{Protocol, Request, Socket};
use kube_proxy_netlink::writer::Writer;
use kube_proxy_netlink::{Errno, Error, Family};

use self::command::{Command, LinkAddress, To, parse};
use super::path_of;

/// `RTM_*` and the lengths and attributes of the messages, from `linux/rtnetlink.h` and `linux/if_link.h`.
mod kernel {
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const DELETE_LINK: u16 = 17;
    pub(super) const GET_LINK: u16 = 18;
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const NEW_ROUTE: u16 = 24;
    /// `struct ifinfomsg`.
    pub(super) const LINK_LEN: usize = 16;
    pub(super) const UP: u32 = 1;
    pub(super) const LINK_ADDRESS: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const MASTER: u16 = 10;
    pub(super) const STATE: u16 = 16;
    /// `IF_OPER_UP`.
    pub(super) const STATE_UP: u8 = 6;
    pub(super) const INFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const NAMESPACE: u16 = 28;
    pub(super) const VETH_PEER: u16 = 1;
    pub(super) const BRIDGE_SNOOPING: u16 = 23;
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const NO_DAD: u8 = 2;
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const DEVICE: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const TABLE_MAIN: u8 = 254;
    pub(super) const PROTOCOL_BOOT: u8 = 3;
    pub(super) const SCOPE_LINK: u8 = 253;
    pub(super) const UNICAST: u8 = 1;
    pub(super) const BLACKHOLE: u8 = 6;
}

/// Commands, one a line, and the lines themselves; `None` when one of them is not understood here.
#[derive(Debug)]
pub(super) struct Script<'a>(Vec<(&'a str, Command<'a>)>);

impl<'a> Script<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| Some((line, parse(line)?))).collect::<Option<_>>().map(Self)
    }

    /// Does everything in the namespace of this thread, which errors call by its name.
    ///
    /// # Errors
    /// When one of them fails; the ones before it have taken effect.
    pub(super) fn run(&self, netns: &str) -> anyhow::Result<()> {
        let mut links = Links::open()?;
        self.0.iter().try_for_each(|(line, command)| {
            links.run(*command).with_context(|| format!("`ip {line}` failed in {netns}"))
        })
    }
}

/// The interfaces of the namespace in which it was opened.
pub(super) struct Links {
    socket: Socket,
    indexes: HashMap<String, u32>,
}

impl Links {
    pub(super) fn open() -> anyhow::Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Route)?, indexes: HashMap::new() })
    }

    /// Whether an interface is there and carries packets.
    pub(super) fn is_up(&mut self, name: &str) -> Result<bool, Error> {
        match self.look_up(name) {
            Ok((_, up)) => Ok(up),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn index(&mut self, name: &str) -> Result<u32, Error> {
        if let Some(index) = self.indexes.get(name) {
            return Ok(*index);
        }
        let (index, _) = self.look_up(name)?;
        self.indexes.insert(name.to_owned(), index);
        Ok(index)
    }

    /// Index, and whether it carries packets.
    fn look_up(&mut self, name: &str) -> Result<(u32, bool), Error> {
        let mut found = (0, false);
        self.socket.request(
            request(kernel::GET_LINK, 0, &format!("interface {name}")),
            |writer| {
                writer.fixed(&[0; kernel::LINK_LEN]);
                writer.text(kernel::NAME, name);
            },
            |message| {
                let [_, _, _, _, i0, i1, i2, i3, ..] = *message.fixed::<{ kernel::LINK_LEN }>()?;
                let state = message.attributes(kernel::LINK_LEN)?.find(kernel::STATE)?;
                let up = state.is_some_and(|state| state.value == [kernel::STATE_UP]);
                found = (u32::from_ne_bytes([i0, i1, i2, i3]), up);
                Ok(())
            },
        )?;
        Ok(found)
    }

    fn run(&mut self, command: Command<'_>) -> anyhow::Result<()> {
        match command {
            Command::AddBridge { name, address } => {
                self.add_link(name, address, "bridge", |w| w.u8(kernel::BRIDGE_SNOOPING, 0))?;
            }
            Command::AddVeth { name, peer, address, netns } => {
                let path = path_of(netns);
                let file = File::open(&path).with_context(|| path.display().to_string())?;
                let netns = u32::try_from(file.as_raw_fd()).context("file descriptor")?;
                self.add_link(name, None, "veth", |writer| {
                    writer.nest(kernel::VETH_PEER, |writer| {
                        writer.fixed(&[0; kernel::LINK_LEN]);
                        writer.text(kernel::NAME, peer);
                        write_address(writer, address);
                        writer.u32(kernel::NAMESPACE, netns);
                    });
                })?;
            }
            Command::SetUp { name, master } => self.set_up(name, master)?,
            Command::DeleteLink { name } => {
                let request = request(kernel::DELETE_LINK, 0, &"");
                self.socket.acknowledged(request, |writer| {
                    writer.fixed(&[0; kernel::LINK_LEN]);
                    writer.text(kernel::NAME, name);
                })?;
                self.indexes.remove(name);
            }
            Command::AddAddress { net, device, no_dad } => self.add_address(net, device, no_dad)?,
            Command::Route { replace, net, to } => self.route(replace, net, to)?,
        }
        Ok(())
    }

    fn add_link(
        &mut self,
        name: &str,
        address: Option<LinkAddress>,
        kind: &str,
        data: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let request = request(kernel::NEW_LINK, flags::CREATE | flags::EXCLUSIVE, &"");
        self.socket.acknowledged(request, |writer| {
            writer.fixed(&[0; kernel::LINK_LEN]);
            writer.text(kernel::NAME, name);
            write_address(writer, address);
            writer.nest(kernel::INFO, |writer| {
                writer.text(kernel::INFO_KIND, kind);
                writer.nest(kernel::INFO_DATA, data);
            });
        })
    }

    fn set_up(&mut self, name: &str, master: Option<&str>) -> Result<(), Error> {
        let master = master.map(|master| self.index(master)).transpose()?;
        self.socket.acknowledged(request(kernel::NEW_LINK, 0, &""), |writer| {
            let mut header = [0; kernel::LINK_LEN];
            // The flags, and which of them are to be changed.
            header[8..12].copy_from_slice(&kernel::UP.to_ne_bytes());
            header[12..16].copy_from_slice(&kernel::UP.to_ne_bytes());
            writer.fixed(&header);
            writer.text(kernel::NAME, name);
            if let Some(master) = master {
                writer.u32(kernel::MASTER, master);
            }
        })
    }

    fn add_address(&mut self, net: IpNet, device: &str, no_dad: bool) -> Result<(), Error> {
        let [i0, i1, i2, i3] = self.index(device)?.to_ne_bytes();
        let flag = if no_dad { kernel::NO_DAD } else { 0 };
        let ip = net.addr();
        let request = request(kernel::NEW_ADDRESS, flags::CREATE | flags::EXCLUSIVE, &"");
        self.socket.acknowledged(request, |writer| {
            let family = Family::of(ip).number();
            writer.fixed(&[family, net.prefix_len(), flag, 0, i0, i1, i2, i3]);
            writer.address(kernel::LOCAL, ip);
            writer.address(kernel::ADDRESS, ip);
        })
    }

    fn route(&mut self, replace: bool, net: IpNet, to: To<'_>) -> Result<(), Error> {
        let device = if let To::Device(name) = to { Some(self.index(name)?) } else { None };
        let how = if replace { flags::REPLACE } else { flags::EXCLUSIVE };
        self.socket.acknowledged(request(kernel::NEW_ROUTE, flags::CREATE | how, &""), |writer| {
            let kind = if to == To::Nowhere { kernel::BLACKHOLE } else { kernel::UNICAST };
            let on_link = device.is_some() && net.addr().is_ipv4();
            let scope = if on_link { kernel::SCOPE_LINK } else { 0 };
            let family = Family::of(net.addr()).number();
            let (table, protocol) = (kernel::TABLE_MAIN, kernel::PROTOCOL_BOOT);
            let length = net.prefix_len();
            writer.fixed(&[family, length, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]);
            if length > 0 {
                writer.address(kernel::DESTINATION, net.addr());
            }
            match to {
                To::Gateway(gateway) => writer.address(kernel::GATEWAY, gateway),
                To::Device(_) | To::Nowhere => {}
            }
            if let Some(device) = device {
                writer.u32(kernel::DEVICE, device);
            }
        })
    }
}

fn write_address(writer: &mut Writer, address: Option<LinkAddress>) {
    if let Some(address) = address {
        writer.bytes(kernel::LINK_ADDRESS, &address);
    }
}

fn request(kind: u16, flags: u16, object: &dyn std::fmt::Display) -> Request<'_> {
    Request { kind, flags, object }
}
