//! A small HTTP client on plain sockets, so that no client library hides what the server does.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::super::ApiServer;

/// A hang ends the test after this long.
pub(super) const HANG: Duration = Duration::from_mins(5);

/// A complete response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) text: String,
}

impl Response {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `metadata.name` of the items of a list.
    pub(super) fn names(&self) -> Vec<String> {
        let list = self.json();
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{list:#}"));
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The resourceVersion of a list or an object.
    pub(super) fn version(&self) -> String {
        self.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    }
}

/// A connection on which one request after the other is sent.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn open(server: &ApiServer) -> io::Result<Self> {
        let stream = TcpStream::connect(server.address())?;
        stream.set_read_timeout(Some(HANG))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> io::Result<Response> {
        let mut response = self.send(method, path, content_type, body)?;
        let chunked = response.header("transfer-encoding") == Some("chunked");
        let mut bytes = Vec::new();
        if chunked {
            while let Some(chunk) = self.chunk()? {
                bytes.extend(chunk);
            }
        } else {
            let length = response.header("content-length").map_or(0, |l| l.parse().unwrap());
            bytes.resize(length, 0);
            self.stream.read_exact(&mut bytes)?;
        }
        response.text = String::from_utf8(bytes).unwrap();
        Ok(response)
    }

    /// Sends a request and reads the head of the response.
    fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> io::Result<Response> {
        let path = path.replace(' ', "%20");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Ok(Response { status: status.unwrap(), headers, text: String::new() })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(line.trim_end().to_owned())
    }

    /// The next chunk of a body; `None` when it ended as it should.
    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = usize::from_str_radix(&self.line()?, 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }
}

/// One request on a connection of its own.
pub(super) fn request(server: &ApiServer, method: &str, path: &str, body: &str) -> Response {
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    Connection::open(server).unwrap().request(method, path, content_type, body).unwrap()
}

pub(super) fn get(server: &ApiServer, path: &str) -> Response {
    request(server, "GET", path, "")
}

/// An open watch.
pub(super) struct WatchClient {
    connection: Connection,
    lines: VecDeque<String>,
    rest: String,
}

impl WatchClient {
    /// Opens a watch, whose path must say `watch=1`.
    pub(super) fn open(server: &ApiServer, path: &str) -> Self {
        let mut connection = Connection::open(server).unwrap();
        let response = connection.send("GET", path, "application/json", "").unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        Self { connection, lines: VecDeque::new(), rest: String::new() }
    }

    /// The next line; `None` at the end of the stream.
    pub(super) fn line(&mut self) -> io::Result<Option<String>> {
        while self.lines.is_empty() {
            let Some(chunk) = self.connection.chunk()? else { return Ok(None) };
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((line, rest)) = self.rest.split_once('\n') {
                self.lines.push_back(line.to_owned());
                self.rest = rest.to_owned();
            }
        }
        Ok(self.lines.pop_front())
    }

    /// Asserts that the connection breaks in the middle of the body.
    #[track_caller]
    pub(super) fn expect_break(&mut self) {
        match self.line() {
            Ok(line) => panic!("the watch continues or ended in order: {line:?}"),
            Err(error) => assert!(!is_timeout(&error), "nothing happened for {HANG:?}"),
        }
    }

    /// The next event as JSON.
    pub(super) fn event(&mut self) -> Value {
        let line = self.line().unwrap().expect("the watch ended");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// The type of the next event and the name of its object.
    pub(super) fn seen(&mut self) -> (String, String) {
        let event = self.event();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }

    /// Asserts that the next events are of these types and names.
    #[track_caller]
    pub(super) fn expect(&mut self, expected: &[(&str, &str)]) {
        for (kind, name) in expected {
            assert_eq!(self.seen(), ((*kind).to_owned(), (*name).to_owned()));
        }
    }

    /// Whether nothing arrives for a while.
    pub(super) fn is_silent(&mut self, time: Duration) -> bool {
        self.connection.stream.get_ref().set_read_timeout(Some(time)).unwrap();
        let silent = match self.connection.stream.fill_buf() {
            Err(error) => is_timeout(&error),
            Ok(_) => false,
        };
        self.connection.stream.get_ref().set_read_timeout(Some(HANG)).unwrap();
        silent && self.lines.is_empty()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
