//! Answers that no API server gives, but what stands before one does.

use fake_apiserver::protobuf_event;
use serde_json::json;

use super::front::Front;
use super::logs::logged_with;
use super::running::{Running, server, service};

/// After these bytes in place of all first answers, the source still gets its objects; what the log says about them.
fn survived(bytes: &[u8]) -> Vec<String> {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let front = Front::plain(&server);
    let answer = |times: usize| (0..times).for_each(|_| front.answer(bytes));
    answer(4);
    let url = format!("http://{}", front.address);
    let mut source = Running::to(&url, super::running::quick());
    source.expect(&["a=10.96.0.1"]);
    assert_eq!(front.unanswered(), 0);
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    drop(source);
    answer(1000);
    let options = kube_proxy_source::KubernetesOptions {
        master: Some(url),
        ..kube_proxy_source::KubernetesOptions::default()
    };
    logged_with(options, async {
        while front.unanswered() > 990 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[track_caller]
fn says(bytes: &[u8], part: &str) {
    let lines = survived(bytes);
    assert!(lines.iter().any(|line| line.contains(part)), "{part:?}: {lines:#?}");
    // No line of a library with a link, and not one for each attempt.
    assert!(!lines.iter().any(|line| line.contains("https://docs")), "{lines:#?}");
    assert!(lines.len() <= 8, "{lines:#?}");
}

#[test]
fn errors_of_proxies_and_load_balancers() {
    let html = "<html>\n<h1>502 Bad Gateway</h1></html>";
    let of = |status: &str, headers: &str, body: &str| response(status, headers, body);
    says(
        &of("502 Bad Gateway", "Content-Type: text/html\r\n", html),
        "answered 502: <html> <h1>502",
    );
    says(
        &of("400 Bad Request", "", "Client sent an HTTP request to an HTTPS server.\n"),
        "HTTPS server",
    );
    says(&of("503 Service Unavailable", "Retry-After: x\r\n", ""), "answered 503");
    says(&of("429 Too Many Requests", "Retry-After: 0\r\n", "slow"), "answered 429: slow");
    says(&of("401 Unauthorized", "", "\u{1b}[31mno"), "answered 401: [31mno");
    says(
        &of("403 Forbidden", "", "{\"kind\":\"Status\",\"message\":\"not you\"}"),
        "answered 403: not you",
    );
    says(
        &of("302 Found", "Location: https://login.example.com/\r\n", ""),
        "answered 302: it points to \"https://login.example.com/\", which is not followed",
    );
}

#[test]
fn answers_that_are_no_lists() {
    let ok = |headers: &str, body: &str| response("200 OK", headers, body);
    let html = ok("Content-Type: text/html\r\n", "<html>Log in</html>");
    says(&html, "cannot understand the server: the answer is \"text/html\", not JSON or protobuf");
    says(&ok("", "<html>Log in</html>"), "the answer ends in the middle of an event");
    says(
        &ok("Content-Encoding: gzip\r\n", "\u{1f}x"),
        "compressed (\"gzip\"), which was not asked for",
    );
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500});
    says(&ok("", &format!("{status}\n")), "cannot understand the server");
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": null});
    says(&ok("", &format!("{list}\n")), "cannot understand the server");
    says(&ok("", "{}\n"), "cannot understand the server");
    says(&ok("", "null\n"), "cannot understand the server");
    says(&ok("", "[]\n"), "cannot understand the server");
    says(&ok("", "{\"type\":\"ADDED\"}\n"), "cannot understand the server");
    says(
        &ok(
            "",
            "{\"type\":\"ADDED\",\"object\":null}
",
        ),
        "invalid type: null",
    );
    says(&ok("", ""), "closes watches at once");
}

#[test]
fn answers_that_are_no_protobuf() {
    let ok = |body: &[u8]| {
        let content_type = "Content-Type: application/vnd.kubernetes.protobuf;stream=watch";
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{content_type}\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    says(
        &ok(&[0xff, 0xff, 0xff, 0xff, 0]),
        "cannot understand the server: a watch event is too long",
    );
    says(&ok(&[0, 0, 0, 5, 1]), "the answer ends in the middle of an event");
    says(&ok(&[0, 0, 1]), "the answer ends in the middle of an event");
    says(&ok(&[0, 0, 0, 0]), "an event without a type");
    says(&ok(&[0, 0, 0, 1, 0xff]), "protobuf: cut off");
    says(&ok(b"{\"type\":\"ADDED\"}\n"), "a watch event is too long");
    let service = json!({"metadata": {"name": "x"}});
    let of_another_kind = protobuf_event("ADDED", "Node", &service);
    says(&ok(&of_another_kind[..]), "a Node, not a Service");
    says(&ok(b""), "closes watches at once");
    let status = json!({"code": 500, "message": "no quorum"});
    says(&ok(&protobuf_event("ERROR", "Status", &status)), "answered 500: no quorum");
}

#[test]
fn answers_that_are_no_http() {
    says(b"", "the connection was closed before the answer");
    says(b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP");
    says(b"\x15\x03\x01\x00\x02\x02", "the answer is not HTTP");
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    says(huge.as_bytes(), "the head of the answer is too large");
    let many = "X: a\r\n".repeat(1000);
    says(
        format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes(),
        "the head of the answer is too large",
    );
    let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"type\":\"ADDED\"";
    says(cut, "the connection was closed");
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"items\":[";
    says(short, "the connection was closed");
    says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "");
}
