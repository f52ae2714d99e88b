//! A server and clients on tokio that both contenders are measured with.
//!
//! A request is one byte: `p` is answered by one byte, `d` by bytes without end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Serves indefinitely.
pub(super) async fn serve(listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    }
}

async fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut request = [0];
    while let Ok(1..) = stream.read(&mut request).await {
        if request[0] == b'd' {
            let block = vec![0; 256 * 1024];
            while stream.write_all(&block).await.is_ok() {}
            return;
        }
        if stream.write_all(b"!").await.is_err() {
            return;
        }
    }
}

/// Bytes a second that this many streams receive together.
pub(super) async fn throughput(
    to: SocketAddr,
    streams: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let bytes = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let mut stream = TcpStream::connect(to).await.context("connect")?;
        stream.write_all(b"d").await?;
        let bytes = bytes.clone();
        tasks.spawn(async move {
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                bytes.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time / 4).await;
    let (begin, before) = (Instant::now(), bytes.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let moved = bytes.load(Ordering::Relaxed) - before;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(moved as f64 / begin.elapsed().as_secs_f64())
}

/// Connections a second, each with one request, by this many clients.
pub(super) async fn connections(
    to: SocketAddr,
    clients: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(async move {
            let mut made = 0_u32;
            while begin.elapsed() < time {
                let mut stream = TcpStream::connect(to).await?;
                stream.write_all(b"p").await?;
                stream.read_exact(&mut [0]).await?;
                made += 1;
            }
            Ok::<_, std::io::Error>(made)
        });
    }
    let mut made = 0;
    while let Some(result) = tasks.join_next().await {
        made += result??;
    }
    Ok(f64::from(made) / begin.elapsed().as_secs_f64())
}

/// The time of requests on one connection, made at a fixed rate, sorted.
pub(super) async fn latencies(
    to: SocketAddr,
    rate: u32,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while begin.elapsed() < time {
        ticks.tick().await;
        let sent = Instant::now();
        stream.write_all(b"p").await?;
        stream.read_exact(&mut [0]).await?;
        latencies.push(sent.elapsed());
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Opens connections that do nothing after a first request.
pub(super) async fn idle(to: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(b"p").await?;
        stream.read_exact(&mut [0]).await?;
        streams.push(stream);
    }
    Ok(streams)
}
