//! Time of the pure parts: taking in a cluster, taking in one change.
//!
//! `cargo bench -p kube-proxy-core --bench tracker`

mod cluster;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion};

const SIZES: [(u32, u32); 3] = [(1_000, 10), (10_000, 10), (5_000, 50)];

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for (services, endpoints) in SIZES {
        let size = format!("{services}x{endpoints}");
        criterion.bench_with_input(BenchmarkId::new("apply", &size), &(), |bencher, ()| {
            bencher.iter_with_large_drop(|| black_box(cluster::filled(services, endpoints)));
        });
        criterion.bench_with_input(BenchmarkId::new("fold", &size), &(), |bencher, ()| {
            bencher.iter_batched(
                || cluster::filled(services, endpoints),
                |mut tracker| {
                    black_box(tracker.fold());
                    tracker
                },
                BatchSize::PerIteration,
            );
        });
        let mut tracker = cluster::filled(services, endpoints);
        tracker.fold();
        let mut moved = 0;
        criterion.bench_with_input(BenchmarkId::new("one change", &size), &(), |bencher, ()| {
            bencher.iter(|| {
                moved = 1 - moved;
                tracker.apply(cluster::slice(services / 2, endpoints, moved));
                black_box(tracker.fold())
            });
        });
    }
    criterion.final_summary();
}
