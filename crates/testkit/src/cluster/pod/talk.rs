//! What the servers say; the reader of these lines is [`crate::probe::Answer`].

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UdpSocket};

/// Longest request head that the HTTP server reads, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;

fn greeting(name: &str, local: SocketAddr, peer: SocketAddr) -> String {
    format!("pod={name} local={local} peer={peer}")
}

/// Greets, then answers each line until the client closes.
pub(super) async fn answer_lines(stream: &mut TcpStream, name: &str) -> io::Result<()> {
    let greeting = greeting(name, stream.local_addr()?, stream.peer_addr()?);
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{greeting}\n").as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer = format!("{greeting} echo={}\n", line.trim_end());
        stream.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// Answers every datagram indefinitely.
pub(super) async fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Ok(local) = socket.local_addr() else {
            continue;
        };
        let echo = String::from_utf8_lossy(&buffer[..length]);
        let answer = format!("{} echo={}\n", greeting(name, local, peer), echo.trim_end());
        // A datagram that cannot be answered is a lost one; the client notices.
        let _ = socket.send_to(answer.as_bytes(), peer).await;
    }
}

/// Answers one request with a page, whatever it asked for, and closes.
pub(super) async fn answer_request(stream: &mut TcpStream, name: &str) -> io::Result<()> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let mut stream = BufReader::new(stream);
    let mut head = 0;
    loop {
        let mut line = String::new();
        let length = stream.read_line(&mut line).await?;
        head += length;
        if line.trim_end().is_empty() {
            break;
        }
        if head > LONGEST_HEAD {
            return Err(io::Error::other("request head too long"));
        }
    }
    let page = format!(
        "<!DOCTYPE html>\n<html>\n<head><title>{name}</title></head>\n<body>\n\
         <h1>This is pod {name}</h1>\n<p>at {local}, asked by {peer}</p>\n</body>\n</html>\n"
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: testkit\r\nContent-Type: text/html\r\n\
         Content-Length: {}\r\nConnection: close\r\nX-Pod: {name}\r\nX-Peer: {peer}\r\n\r\n",
        page.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.as_bytes()).await?;
    stream.shutdown().await
}
