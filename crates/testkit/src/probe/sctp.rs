//! SCTP as far as a refusal shows: one packet, made by hand.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::{Options, Outcome};

const SCTP: i32 = 132;

/// The port that the packet comes from.
const FROM: u16 = 40_132;

pub(super) fn once(options: Options, address: SocketAddr) -> Outcome {
    match exchange(options, address) {
        Ok(length) => Outcome::Broken(format!("{length} bytes came back")),
        Err(error) => Outcome::from_connect_error(&error),
    }
}

fn exchange(options: Options, address: SocketAddr) -> io::Result<usize> {
    let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(Protocol::from(SCTP)))?;
    socket.set_read_timeout(Some(options.timeout))?;
    // Raw sockets have no ports.
    socket.connect(&SocketAddr::new(address.ip(), 0).into())?;
    socket.send(&init(address.port()))?;
    socket.recv(&mut [MaybeUninit::uninit(); 128])
}

/// The first packet of an association: the common header and an INIT chunk. The checksum is left out.
fn init(port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(FROM.to_be_bytes());
    packet.extend(port.to_be_bytes());
    // Verification tag and checksum.
    packet.extend([0; 8]);
    // INIT, no flags, 20 bytes.
    packet.extend([1, 0, 0, 20]);
    // Tag, window, streams out and in, first number.
    packet.extend(1_u32.to_be_bytes());
    packet.extend(65_535_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    packet
}
