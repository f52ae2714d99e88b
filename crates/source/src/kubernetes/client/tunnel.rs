//! What is said to a proxy before its connection is one to the server.

use data_encoding::BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::authority::{address_of, host_and_port};
use super::words;

/// Longest head of an answer to `CONNECT`.
const MAX_HEAD: usize = 16 * 1024;

/// Name and password.
type User = (String, String);

/// The value of `Proxy-Authorization`.
pub(super) fn authorization((name, password): &User) -> String {
    format!("Basic {}", BASE64.encode(format!("{name}:{password}").as_bytes()))
}

/// Asks an HTTP proxy for a connection.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
    user: Option<&User>,
) -> Result<(), String> {
    let target = host_and_port(host, port);
    let who = user.map(|user| format!("Proxy-Authorization: {}\r\n", authorization(user)));
    let who = who.unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{who}\r\n");
    write(stream, request.as_bytes()).await?;
    // Byte by byte, because what follows the head is not ours to take.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() >= MAX_HEAD {
            return Err("the proxy's answer to CONNECT is too long".to_owned());
        }
        head.push(read::<1>(stream).await?[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let first = head.lines().next().unwrap_or_default().trim();
    let mut words = first.splitn(3, ' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Err("the proxy does not answer in HTTP".to_owned());
    }
    match code {
        code if code.len() == 3 && code.starts_with('2') => Ok(()),
        "407" => Err("the proxy asks for a name and a password, or refuses those given".to_owned()),
        _ => Err(format!("the proxy answered {first:?} to CONNECT {target}")),
    }
}

/// Asks a SOCKS5 proxy for a connection; names are looked up by the proxy. RFC 1928 and 1929.
pub(super) async fn socks5(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
    user: Option<&User>,
) -> Result<(), String> {
    // The methods: none, and name with password.
    let methods: &[u8] = if user.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    write(stream, methods).await?;
    match (read::<2>(stream).await?, user) {
        ([5, 0], _) => {}
        ([5, 2], Some(user)) => log_in(stream, user).await?,
        ([5, _], _) => return Err("the proxy asks for a name and a password".to_owned()),
        _ => return Err("the proxy does not speak SOCKS5".to_owned()),
    }
    let mut request = vec![5, 1, 0];
    match address_of(host) {
        Some(std::net::IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Some(std::net::IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        None => {
            request.push(3);
            push_text(&mut request, host)?;
        }
    }
    request.extend(port.to_be_bytes());
    write(stream, &request).await?;
    let [version, code, _, kind] = read::<4>(stream).await?;
    if version != 5 {
        return Err("the proxy does not speak SOCKS5".to_owned());
    }
    if code != 0 {
        return Err(format!("the proxy cannot connect to {host}: {}", reason(code)));
    }
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(read::<1>(stream).await?[0]),
        _ => return Err("the proxy names an address of an unknown kind".to_owned()),
    };
    // Its address and port do not matter.
    for _ in 0..length + 2 {
        read::<1>(stream).await?;
    }
    Ok(())
}

async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (name, password): &User,
) -> Result<(), String> {
    let mut request = vec![1];
    push_text(&mut request, name)?;
    push_text(&mut request, password)?;
    write(stream, &request).await?;
    match read::<2>(stream).await? {
        [_, 0] => Ok(()),
        _ => Err("the proxy refuses the name and the password".to_owned()),
    }
}

fn push_text(request: &mut Vec<u8>, text: &str) -> Result<(), String> {
    let length = u8::try_from(text.len());
    request.push(length.map_err(|_| "a name is too long for SOCKS5".to_owned())?);
    request.extend(text.as_bytes());
    Ok(())
}

fn reason(code: u8) -> String {
    let text = match code {
        1 => "general failure",
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "timed out",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => return format!("code {code}"),
    };
    text.to_owned()
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), String> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    written.await.map_err(|error| words::describe(&error))
}

async fn read<const LENGTH: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; LENGTH], String> {
    let mut bytes = [0; LENGTH];
    let read = stream.read_exact(&mut bytes).await;
    read.map_err(|error| words::describe(&error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
