//! A small HTTP/1.1 client.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::{Context as _, bail};

use super::{Options, socket};

/// What an HTTP server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Header fields in the order received, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text; bytes that are not UTF-8 are replaced.
    pub body: String,
}

impl HttpResponse {
    /// Value of the first header field of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

pub(super) fn get(
    options: Options,
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<HttpResponse> {
    let context = || format!("GET http://{address}{path}");
    let mut stream = socket::tcp(options, address).with_context(context)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).with_context(context)?;
    read_response(&mut BufReader::new(stream)).with_context(context)
}

fn read_response(stream: &mut impl BufRead) -> anyhow::Result<HttpResponse> {
    let status_line = read_line(stream)?;
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no HTTP status line: {status_line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(':').with_context(|| format!("no header field: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = HttpResponse { status, headers, body: String::new() };
    let body = read_body(stream, &response)?;
    response.body = String::from_utf8_lossy(&body).into_owned();
    Ok(response)
}

fn read_body(stream: &mut impl BufRead, response: &HttpResponse) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if response.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        return read_chunks(stream);
    }
    match response.header("content-length") {
        Some(length) => {
            let length = length.parse().with_context(|| format!("content-length {length:?}"))?;
            let read = stream.take(length).read_to_end(&mut body)?;
            if u64::try_from(read)? != length {
                bail!("the body ended after {read} of {length} bytes");
            }
        }
        None => {
            stream.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

/// Reads a body in the chunked coding of RFC 9112, section 7.1.
fn read_chunks(stream: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).with_context(|| format!("chunk {line:?}"))?;
        if size == 0 {
            return Ok(body);
        }
        let read = stream.by_ref().take(size).read_to_end(&mut body)?;
        if u64::try_from(read)? != size {
            bail!("a chunk ended after {read} of {size} bytes");
        }
        read_line(stream)?;
    }
}

/// A line without its end.
fn read_line(stream: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        bail!("the connection was closed within the head of the response");
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests;
