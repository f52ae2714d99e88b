use super::*;

#[test]
fn names_of_sets_are_read() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(
        parse("affinity-ABCDEFGH-ns/svc/tcp/http__10.0.0.1/80", IpFamily::V4),
        Some(("ns/svc/tcp/http", address("10.0.0.1:80")))
    );
    assert_eq!(
        parse("affinity-ABCDEFGH-ns/svc/udp/__fd00..1/53", IpFamily::V6),
        Some(("ns/svc/udp/", address("[fd00::1]:53")))
    );
    for other in [
        "affinity",
        "affinity-",
        "affinity-ABCDEFGH",
        "affinity-ABCDEFGH-ns/svc/tcp/http",
        "affinity-ABCDEFGH-ns/svc/tcp/http__10.0.0.1",
        "affinity-ABCDEFGH-ns/svc/tcp/http__10.0.0/80",
        "affinity-ABCDEFGH-ns/svc/tcp/http__10.0.0.1/99999",
        "affinity-ABCDEF\u{fc}H-ns/svc/tcp/http__10.0.0.1/80",
        "affinity-ABCDEFGH-ns/svc/tcp/ht...",
    ] {
        assert_eq!(parse(other, IpFamily::V4), None, "{other}");
    }
}
