//! The table of [`Algorithm::Maglev`](crate::Algorithm::Maglev): which endpoint has which slot, so that few slots change hands with the endpoints.
//!
//! This is the consistent hashing of "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4.
//! Each endpoint has a list of all slots in an order of its own, which depends on nothing but its address and port.
//! In turn the endpoints take the next slot of their list that is free, until none is.
//! An endpoint of a greater weight has more turns: its turn of number k is at the time k divided by its weight, and those of one time come
//! in the order of addresses.
//! So every node that has the same endpoints and weights makes the same table, whatever it had before.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};

use crate::Endpoint;

/// Numbers of slots: primes, so that a list that advances by any number of slots has all of them.
const SIZES: [u32; 4] = [1021, 4093, 16_381, 65_521];
/// There are at least so many slots for each endpoint, but for more endpoints than the greatest size is for.
const FOR_EACH: usize = 8;

/// How many slots there are for so many endpoints.
///
/// A single endpoint has one slot: whatever the hash is, the connection gets there.
/// The first size is for up to 127 endpoints, the others for up to 511, 2047 and more.
pub fn size(endpoints: usize) -> u32 {
    if endpoints < 2 {
        return u32::try_from(endpoints).unwrap_or_default();
    }
    let slots = u32::try_from(endpoints.saturating_mul(FOR_EACH)).unwrap_or(u32::MAX);
    SIZES.into_iter().find(|size| *size >= slots).unwrap_or(SIZES[SIZES.len() - 1])
}

/// For each slot the place of its endpoint in the list. The order of the list makes no difference to who gets a slot. None of them drains.
pub fn table(endpoints: &[Endpoint]) -> Vec<u32> {
    match size(endpoints.len()) {
        size @ 0..2 => vec![0; size as usize],
        size => fill(endpoints, size),
    }
}

/// The same for a prime number of slots.
fn fill(endpoints: &[Endpoint], size: u32) -> Vec<u32> {
    let mut by_address: Vec<u32> = (0..).zip(endpoints).map(|(place, _)| place).collect();
    by_address.sort_by_key(|place| endpoints[*place as usize].socket_address());
    let mut lists = Vec::with_capacity(endpoints.len());
    let mut turns = BinaryHeap::with_capacity(endpoints.len());
    for (rank, place) in (0..).zip(&by_address) {
        let endpoint = &endpoints[*place as usize];
        lists.push(List::of(endpoint.socket_address(), size));
        turns.push(Turn { number: 0, share: u64::from(endpoint.share().max(1)), rank });
    }
    let mut table = vec![None; size as usize];
    for _ in 0..size {
        let Some(mut turn) = turns.peek_mut() else { break };
        let rank = turn.rank as usize;
        // A list has every slot, so it comes to a free one.
        let free = lists[rank].find(|slot| table[*slot as usize].is_none());
        if let Some(slot) = free {
            table[slot as usize] = Some(by_address[rank]);
        }
        turn.number += 1;
    }
    table.into_iter().map(Option::unwrap_or_default).collect()
}

/// The slots in the order in which an endpoint would like to have them.
#[derive(Clone, Debug)]
struct List {
    next: u32,
    skip: u32,
    size: u32,
}

impl List {
    fn of(address: SocketAddr, size: u32) -> Self {
        let hash = hash(address);
        let below =
            |hash: u64, bound: u32| u32::try_from(hash % u64::from(bound)).unwrap_or_default();
        Self { next: below(mixed(hash), size), skip: below(mixed(!hash), size - 1) + 1, size }
    }
}

impl Iterator for List {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let slot = self.next;
        self.next = (self.next + self.skip) % self.size;
        Some(slot)
    }
}

/// When an endpoint takes its next slot. The greatest is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    /// How many it had.
    number: u64,
    share: u64,
    /// Its place in the order of addresses.
    rank: u32,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let time = (other.number * self.share).cmp(&(self.number * other.share));
        time.then_with(|| other.rank.cmp(&self.rank))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// FNV-1a of address and port: the same on processors of either byte order.
fn hash(address: SocketAddr) -> u64 {
    let port = address.port().to_be_bytes();
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let of = |ip: &[u8]| ip.iter().chain(&port).fold(0xcbf2_9ce4_8422_2325, add);
    match address.ip() {
        IpAddr::V4(ip) => of(&ip.octets()),
        IpAddr::V6(ip) => of(&ip.octets()),
    }
}

/// Spreads neighbouring numbers over all (the last step of `SplitMix64`, Steele et al. 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
