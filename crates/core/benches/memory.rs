//! Memory of a tracker with its snapshot: bytes and allocations, counted by the allocator. The result is one JSON object.
//!
//! `cargo bench -p kube-proxy-core --bench memory -- [SERVICES] [ENDPOINTS]`
#![expect(clippy::print_stdout, reason = "the result")]

mod cluster;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let services = numbers.first().copied().unwrap_or(10_000);
    let endpoints = numbers.get(1).copied().unwrap_or(10);
    let profiler = dhat::Profiler::builder().testing().build();
    let empty = dhat::HeapStats::get();
    let mut tracker = cluster::filled(services, endpoints);
    tracker.fold();
    let full = dhat::HeapStats::get();
    let bytes = full.curr_bytes - empty.curr_bytes;
    let count = tracker.snapshot().endpoint_count;
    tracker.apply(cluster::slice(services / 2, endpoints, 1));
    tracker.fold();
    let changed = dhat::HeapStats::get();
    println!(
        "{{\"services\": {services}, \"endpoints\": {count}, \"bytes\": {bytes}, \"bytes_per_endpoint\": {}, \
         \"peak_bytes\": {}, \"blocks\": {}, \"allocations_for_one_change\": {}}}",
        bytes / count.max(1),
        full.max_bytes - empty.curr_bytes,
        full.curr_blocks - empty.curr_blocks,
        changed.total_blocks - full.total_blocks,
    );
    drop(profiler);
}
