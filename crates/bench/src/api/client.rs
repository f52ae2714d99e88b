//! The list and watch of a proxy, as its source does them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::bail;
use kube_proxy_core::Event;
use kube_proxy_source::{KubernetesOptions, KubernetesSource, Problems};
use tokio::sync::oneshot;

/// A start or a change that takes longer is a fault.
const HANG: Duration = Duration::from_mins(10);
/// Kinds that each client lists.
const KINDS: usize = 4;

/// How clients speak.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) kubeconfig: PathBuf,
    pub(super) content_type: &'static str,
}

/// Running clients. Dropping them ends them.
pub(super) struct Clients {
    seen: Arc<Seen>,
    running: Vec<Client>,
}

/// A client on a thread of its own.
struct Client {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What all clients together have seen.
#[derive(Default)]
struct Seen {
    lists: AtomicUsize,
    slices: AtomicUsize,
}

impl Clients {
    /// Starts this many at once, and waits until all have listed everything.
    pub(super) fn start(settings: &Settings, count: usize) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let mut clients = Self { seen: seen.clone(), running: Vec::new() };
        for _ in 0..count {
            let (stop, stopped) = oneshot::channel();
            let (settings, seen) = (settings.clone(), seen.clone());
            let thread = std::thread::spawn(move || run(&settings, seen, stopped));
            clients.running.push(Client { stop: Some(stop), thread: Some(thread) });
        }
        clients.wait(&seen.lists, count * KINDS)?;
        Ok(clients)
    }

    /// How many versions of EndpointSlices were seen.
    pub(super) fn slices(&self) -> usize {
        self.seen.slices.load(Ordering::Relaxed)
    }

    /// Waits until this many were seen.
    pub(super) fn wait_for_slices(&self, count: usize) -> anyhow::Result<()> {
        self.wait(&self.seen.slices, count)
    }

    fn wait(&self, counter: &AtomicUsize, count: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        while counter.load(Ordering::Relaxed) < count {
            let mut threads = self.running.iter().filter_map(|client| client.thread.as_ref());
            let dead = threads.any(JoinHandle::is_finished);
            if dead || begun.elapsed() > HANG {
                bail!("a client has seen {} of {count}", counter.load(Ordering::Relaxed));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for Client { stop, thread } in &mut self.running {
            drop(stop.take());
            if let Some(thread) = thread.take() {
                // What went wrong was printed when it did.
                let _ = thread.join();
            }
        }
    }
}

fn run(settings: &Settings, seen: Arc<Seen>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let options = KubernetesOptions {
            kubeconfig: Some(settings.kubeconfig.clone()),
            content_type: settings.content_type.to_owned(),
            node_name: super::server::NODE.to_owned(),
            qps: -1.0,
            ..KubernetesOptions::default()
        };
        let Ok(source) = KubernetesSource::new(options, Problems::new()) else { return };
        let sink = Arc::new(move |event| match event {
            Event::ListDone(_) => drop(seen.lists.fetch_add(1, Ordering::Relaxed)),
            Event::EndpointSliceApplied(_) => drop(seen.slices.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        });
        tokio::select! {
            () = source.run(sink) => {}
            _ = stopped => {}
        }
    });
}
