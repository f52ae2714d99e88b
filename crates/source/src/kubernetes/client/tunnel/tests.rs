use tokio::io::duplex;

use super::*;

/// What a proxy that answers with these bytes makes of it, and what it was sent.
fn connected(answer: &[u8]) -> (Result<(), String>, Vec<u8>) {
    run(answer, async |stream| connect(stream, "2001:db8::1", 6443, None).await)
}

fn socks(host: &str, answer: &[u8], user: Option<&User>) -> (Result<(), String>, Vec<u8>) {
    run(answer, async |stream| socks5(stream, host, 443, user).await)
}

fn run(
    answer: &[u8],
    client: impl AsyncFnOnce(&mut tokio::io::DuplexStream) -> Result<(), String>,
) -> (Result<(), String>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut near, mut far) = duplex(1 << 20);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        let result = client(&mut near).await;
        drop(near);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        (result, sent)
    })
}

#[test]
fn answers_to_connect() {
    let (result, sent) = connected(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n");
    assert_eq!(result, Ok(()));
    let expected = "CONNECT [2001:db8::1]:6443 HTTP/1.1\r\nHost: [2001:db8::1]:6443\r\n\r\n";
    assert_eq!(String::from_utf8(sent).unwrap(), expected);
    let long = [b"HTTP/1.1 200 ".as_slice(), &b"a".repeat(1 << 16)].concat();
    for (answer, part) in [
        (
            b"HTTP/1.1 403 Forbidden\r\n\r\n".as_slice(),
            "answered \"HTTP/1.1 403 Forbidden\" to CONNECT",
        ),
        (b"HTTP/1.1 407 x\r\n\r\n", "name and a password"),
        (b"HTTP/1.1 20\r\n\r\n", "answered"),
        (b"\r\n\r\n", "does not answer in HTTP"),
        (b"\xff\xff\r\n\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "closed in the middle"),
        (b"", "closed in the middle"),
        (&long, "too long"),
    ] {
        let error = connected(answer).0.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn answers_of_socks() {
    let good = [5, 0, 5, 0, 0, 1, 10, 0, 0, 1, 0, 80];
    let (result, sent) = socks("10.0.0.1", &good, None);
    assert_eq!((result, sent), (Ok(()), vec![5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 1, 1, 187]));
    let (_, sent) = socks("a.b", &good, None);
    assert_eq!(sent, [5, 1, 0, 5, 1, 0, 3, 3, b'a', b'.', b'b', 1, 187]);
    let (_, sent) = socks("::1", &good, None);
    assert_eq!(sent[3..7], [5, 1, 0, 4]);
    for (answer, part) in [
        (&[5, 0, 5, 5, 0, 1][..], "cannot connect to a: connection refused"),
        (&[5, 0, 5, 99, 0, 1], "code 99"),
        (&[5, 0, 5, 0, 0, 7], "unknown kind"),
        (&[5, 0, 4, 0, 0, 1], "does not speak SOCKS5"),
        (&[5, 2], "asks for a name"),
        (&[5, 255], "asks for a name"),
        (b"HTTP/1.1 400", "does not speak SOCKS5"),
        (&[5], "closed in the middle"),
    ] {
        let error = socks("a", answer, None).0.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let user = ("me".to_owned(), "pw".to_owned());
    let error = socks("a", &[5, 2, 1, 1], Some(&user)).0.unwrap_err();
    assert!(error.contains("refuses the name"), "{error}");
    let long = ("a".repeat(300), String::new());
    assert!(socks("a", &[5, 2], Some(&long)).0.unwrap_err().contains("too long"));
}
