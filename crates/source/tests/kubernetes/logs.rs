//! What operators read.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_apiserver::{Failure, Options, Verb};
use kube_proxy_source::{KubernetesOptions, KubernetesSource, Problems};

use super::running::{HANG, quick, server, server_with, service};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that a source logs in some time.
fn logged(url: String, during: impl Future<Output = ()>) -> Vec<String> {
    let (master, content_type) = (Some(url), crate::CONTENT_TYPE.to_owned());
    logged_with(KubernetesOptions { master, content_type, ..KubernetesOptions::default() }, during)
}

pub(crate) fn logged_with(
    options: KubernetesOptions,
    during: impl Future<Output = ()>,
) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options =
            KubernetesOptions { qps: -1.0, node_name: "n1".to_owned(), timing: quick(), ..options };
        let source = KubernetesSource::new(options, Problems::new()).unwrap();
        tokio::select! {
            () = source.run(Arc::new(|_| ())) => {}
            () = during => {}
        }
    });
    drop(runtime);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_server_that_is_away_is_one_line_and_another_when_it_is_back() {
    let server = server();
    server.stop();
    let lines = logged(server.url(), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.resume().unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains(&server.url()), "{}", lines[0]);
    assert!(lines[0].contains("Connection refused"), "{}", lines[0]);
    assert!(lines[0].contains("waiting for the first list of Service"), "{}", lines[0]);
    assert!(lines[1].contains("INFO") && lines[1].contains("answers again"), "{}", lines[1]);
}

#[test]
fn errors_of_the_server_are_one_line_each() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    server.faults().fail(Failure::new(500).times(5).resource("services"));
    server.faults().fail(Failure::new(403).times(u32::MAX).resource("servicecidrs"));
    let lines = logged(server.url(), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
    });
    let with = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(with("Internal error occurred"), 1, "{lines:#?}");
    assert_eq!(with("ServiceCIDRs are not used"), 1, "{lines:#?}");
    assert_eq!(with("answers again"), 1, "{lines:#?}");
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn watches_that_are_refused_are_one_line_until_one_works() {
    let server =
        server_with(Options { bookmark_interval: Duration::from_millis(50), ..Options::default() });
    let expired = Failure::new(410).verb(Verb::Watch).times(u32::MAX).resource("services");
    server.faults().fail(expired);
    let lines = logged(server.url(), async {
        let lists = || server.requests().count(Verb::List, "services");
        let begun = Instant::now();
        while lists() < 6 {
            assert!(begun.elapsed() < HANG, "it stays at {} lists", lists());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.faults().clear_failures();
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    let of = |part: &str| lines.iter().filter(|line| line.contains(part)).collect::<Vec<_>>();
    assert_eq!(of("answered 410").len(), 1, "{lines:#?}");
    assert!(of("answered 410")[0].contains("WARN"), "{lines:#?}");
    assert_eq!(of("answers again").len(), 1, "{lines:#?}");
}

#[test]
fn a_server_that_goes_away_leaves_the_last_state() {
    let server = server();
    let lines = logged(server.url(), async {
        while server.open_watches("services") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.stop();
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    assert!(lines.iter().any(|line| line.contains("the last known state is kept")), "{lines:#?}");
    assert!(
        !lines.iter().any(|line| line.contains("http://docs") || line.contains("https://docs"))
    );
}
