use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Connections, UNDISTURBED};

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

#[test]
fn one_that_ends_makes_room_and_no_other_is_closed() {
    run(async {
        let mut connections = Connections::new(2);
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = Counted(closed.clone());
        connections.add(async move {
            let _counted = counted;
            pending::<()>().await;
        });
        let (end, ends) = oneshot::channel::<()>();
        connections.add(async { _ = ends.await });
        end.send(()).unwrap();
        connections.make_room().await;
        connections.add(pending());
        assert_eq!((connections.open.len(), closed.load(Ordering::Relaxed)), (2, 0));
    });
}

#[test]
fn the_oldest_makes_room_after_a_while() {
    run(async {
        let mut connections = Connections::new(3);
        let closed = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        for _ in 0..3 {
            let counted = Counted(closed.clone());
            connections.make_room().await;
            connections.add(async move {
                let _counted = counted;
                pending::<()>().await;
            });
        }
        assert_eq!(closed.load(Ordering::Relaxed), 0);
        for number in 1..=3 {
            connections.make_room().await;
            connections.add(pending());
            tokio::task::yield_now().await;
            assert_eq!(closed.load(Ordering::Relaxed), number);
        }
        assert!(begin.elapsed() >= UNDISTURBED, "each has its time");
    });
}
