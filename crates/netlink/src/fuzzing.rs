//! Every reader of messages, for fuzz targets. None may panic, whatever the bytes are.

use std::hint::black_box;

use crate::message::Messages;
use crate::{accounting, conntrack, ipset, ipvs, netfilter, nf_tables, route, socket};

/// Reads a datagram: each message in every way in which one of its kind could be read, and in all others.
pub fn datagram(bytes: &[u8]) {
    nf_tables::fuzz_user_data(bytes);
    for message in Messages::new(bytes).map_while(Result::ok) {
        black_box(netfilter::read_header(&message).is_ok());
        black_box(accounting::decode(&message).is_ok());
        black_box(ipset::codec::decode_header(&message).is_ok());
        black_box(ipset::codec::decode_members(&message).is_ok());
        black_box(ipvs::codec::decode_server(&message).is_ok());
        for v6 in [false, true] {
            black_box(ipvs::codec::decode_destination(&message, v6).is_ok());
        }
        conntrack::fuzz(&message);
        nf_tables::fuzz(&message);
        route::fuzz(&message);
        socket::fuzz(&message);
    }
}
