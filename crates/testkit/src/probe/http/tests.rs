use super::*;

fn parse(text: &str) -> anyhow::Result<HttpResponse> {
    read_response(&mut text.as_bytes())
}

#[test]
fn body_of_given_length() {
    let response =
        parse("HTTP/1.1 503 Bad\r\nContent-Length: 2\r\nX-A:  b \r\n\r\nokMORE").unwrap();
    assert_eq!(response.status, 503);
    assert_eq!(response.body, "ok");
    assert_eq!(response.header("x-a"), Some("b"));
}

#[test]
fn body_in_chunks() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(parse(text).unwrap().body, "abc0123456789");
}

#[test]
fn body_until_close() {
    assert_eq!(parse("HTTP/1.0 200 OK\r\n\r\nall of it").unwrap().body, "all of it");
}

#[test]
fn cut_short_is_an_error() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        "SSH-2.0 200 OK\r\n\r\n",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}
