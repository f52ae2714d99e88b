use super::*;

fn url(text: &str) -> String {
    Server::parse(text, false).map_or_else(|error| format!("error: {error}"), |s| s.to_string())
}

#[test]
fn urls_as_people_write_them() {
    for (written, read) in [
        ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
        (" https://10.0.0.1:6443/ \r\n", "https://10.0.0.1:6443"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com:/", "https://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("10.0.0.1", "http://10.0.0.1"),
        ("localhost:8080/", "http://localhost:8080"),
        ("https://[2001:DB8::1]:6443", "https://[2001:db8::1]:6443"),
        ("https://[fe80::1%25eth0]", "https://[fe80::1]"),
        ("https://rancher/k8s/clusters/c-1/", "https://rancher/k8s/clusters/c-1"),
        ("https://example.com/a?b=c#d", "https://example.com/a"),
        ("https://user:p%40ss@example.com", "https://example.com"),
    ] {
        assert_eq!(url(written), read, "{written}");
    }
}

#[test]
fn what_is_no_server() {
    for bad in [
        "",
        " ",
        "https://",
        "https:///path",
        "ftp://a",
        "2001:db8::1",
        "https://2001:db8::1",
        "https://[2001:db8::1",
        "https://[::1]x",
        "https://[a]",
        "https://a:b",
        "https://a:65536",
        "https://a:0",
        "https://a b",
        "https://ä",
        "a/b",
        "https://a/\u{7f}",
        "https://a:1:2",
    ] {
        assert!(url(bad).starts_with("error: "), "{bad:?}: {}", url(bad));
    }
}

#[test]
fn name_and_password_are_read_and_not_shown() {
    let server = Server::parse("https://user:p%40ss%zz@example.com", true).unwrap();
    assert_eq!(server.user, Some(("user".to_owned(), "p@ss%zz".to_owned())));
    assert!(!format!("{server:?}").contains("p@ss"));
}

#[test]
fn the_zone_of_an_address_is_for_connecting_only() {
    let server = Server::parse("https://[fe80::1%25eth0]:6443", true).unwrap();
    assert_eq!(server.host, "fe80::1%eth0");
    assert_eq!(server.authority(), "[fe80::1]:6443");
}
