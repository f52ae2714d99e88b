use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Answer, Asked, Handler, Limits, Reply, listen, serve};

/// Answers `/ok` with its method, and everything else with 503 and the path.
struct Echo;

impl Handler for Echo {
    fn answer(&self, asked: &Asked) -> Reply {
        match &*asked.path {
            "/ok" => Answer::text(format!("{} {}", asked.method, asked.body.len())).into(),
            "/later" => Reply::Later(Box::pin(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Answer::text("later")
            })),
            path => Answer::error(StatusCode::SERVICE_UNAVAILABLE, path).into(),
        }
    }
}

/// Sends these bytes to a server, closes that direction if asked to, and returns everything that comes back.
fn talk(limits: Limits, sent: &[u8], half_close: bool) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, limits, Arc::new(Echo)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        if half_close {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        // A reset after the answer is no failure of it.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    })
}

fn ask(request: &str) -> String {
    talk(Limits::default(), request.as_bytes(), false)
}

#[test]
fn any_method_gets_the_same_answer() {
    for method in ["GET", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        for (path, status) in [("/ok", 200), ("/bad", 503), ("http://lb.example/ok", 200)] {
            let answer = ask(&format!(
                "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
            ));
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{method} {path}: {answer}"
            );
        }
    }
}

#[test]
fn head_has_no_body() {
    let answer = ask("HEAD /ok HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: 6\r\n"), "{answer}");
}

#[test]
fn old_clients_get_one_answer_and_the_end() {
    // HAProxy's check, and that of a monitoring script.
    for request in ["OPTIONS /ok HTTP/1.0\r\n\r\n", "GET /ok HTTP/1.0\nConnection: close\n\n"] {
        let answer = ask(request);
        assert!(answer.starts_with("HTTP/1.0 200 "), "{request:?}: {answer:?}");
        assert!(answer.ends_with(" 0"), "{request:?}: {answer:?}");
    }
}

#[test]
fn several_requests_on_one_connection() {
    let one = "GET /ok HTTP/1.1\r\nHost: node\r\n\r\n";
    let last = "OPTIONS /bad HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
    let answer = ask(&format!("{one}{one}{one}{last}"));
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 3, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 503 ").count(), 1, "{answer}");
}

#[test]
fn a_client_that_has_nothing_more_to_send_gets_its_answer() {
    let request = "GET /later HTTP/1.1\r\nHost: node\r\n\r\n";
    let answer = talk(Limits::default(), request.as_bytes(), true);
    assert!(answer.ends_with("\r\n\r\nlater"), "{answer:?}");
}

#[test]
fn a_connection_ends_after_its_time() {
    let limits = Limits { connection: Duration::from_millis(50), ..Limits::default() };
    let answer = talk(limits, b"GET /ok HTTP/1.1\r\nHost: node\r\n\r\n", false);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("GET 0"), "{answer:?}");
}

#[test]
fn what_is_no_request_is_refused_or_dropped() {
    let long = format!("GET /ok HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /ok HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    // The beginning of a TLS handshake, an old and a new version of HTTP, and nonsense.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    for sent in [long.as_bytes(), many.as_bytes(), hello, h2, b"GET /ok\r\n\r\n", b"\0\0\r\n\r\n"] {
        let answer = talk(Limits::default(), sent, true);
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{:?}: {answer:?}", String::from_utf8_lossy(&sent[..sent.len().min(40)]));
    }
}

#[test]
fn strange_paths_are_just_paths() {
    for path in ["//ok", "/ok/", "/a/../ok", "/%6fk", "/ok%00", "/OK", "/ok;x", "*"] {
        let answer =
            ask(&format!("OPTIONS {path} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer:?}");
    }
    let answer = ask("GET /ok?x=/../%00&&= HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

#[test]
fn parameters_are_decoded_as_forms_write_them() {
    for (query, expected) in [
        ("to=10.0.0.1:80", Some("10.0.0.1:80")),
        ("x=1&to=%5B2001%3Adb8%3A%3A1%5D%3a80%2Fudp", Some("[2001:db8::1]:80/udp")),
        ("to=a+b", Some("a b")),
        ("to=100%", Some("100%")),
        ("to=%4", Some("%4")),
        ("to=%+1", Some("% 1")),
        ("to=%ff", Some("\u{fffd}")),
        ("to=", Some("")),
        ("from=x", None),
    ] {
        let asked = Asked { query: query.to_owned(), ..Asked::get("/") };
        assert_eq!(asked.decoded("to").as_deref(), expected, "{query}");
    }
}
