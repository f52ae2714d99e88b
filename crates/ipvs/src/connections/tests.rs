use proptest::prelude::*;

use super::*;

fn check(line: &str, expected: Option<(u8, &str, bool)>) {
    let found = parse(line).map(|c| {
        let (protocol, address) = c.server.frontend().unwrap();
        (protocol, address.to_string(), c.ended)
    });
    assert_eq!(found, expected.map(|(protocol, to, ended)| (protocol, to.to_owned(), ended)));
}

#[test]
fn lines_of_the_kernel_are_read() {
    check("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData", None);
    check(
        "TCP 0AF40105 D431 0A600001 0050 0AF40102 1F90 ESTABLISHED     899",
        Some((6, "10.96.0.1:80", false)),
    );
    check(
        "TCP 0AF40105 D431 0A600001 0050 0AF40102 1F90 TIME_WAIT       119",
        Some((6, "10.96.0.1:80", true)),
    );
    check(
        "UDP fd00:0010:0244:0000:0000:0000:0000:0005 D431 fd00:0010:0096:0000:0000:0000:0000:0002 0035 fd00:0010:0244:0000:0000:0000:0000:0007 1F90 UDP             299",
        Some((17, "[fd00:10:96::2]:53", false)),
    );
    check("UDP 0AF40105 D431 0A600001 0035", None);
}

#[test]
fn session_affinity_is_no_connection() {
    let template = "TCP 0AF40105 0000 0A600001 0050 0AF40102 1F90 NONE            100";
    check(template, None);
    let Template { server, client, session } = parse_template(template).unwrap();
    assert_eq!(server.to_string(), "tcp 10.96.0.1:80");
    assert_eq!(client.to_string(), "10.244.1.5");
    assert_eq!(session.endpoint.to_string(), "10.244.1.2:8080");
    assert_eq!(session.remaining, Duration::from_secs(100));
    let connection = "TCP 0AF40105 D431 0A600001 0050 0AF40102 1F90 ESTABLISHED     899";
    assert_eq!(parse_template(connection), None);
}

proptest! {
    #[test]
    fn any_line_is_read(line in "(TCP|UDP|XYZ)? ?([0-9A-Fa-f:. ]|\\PC){0,80}") {
        let _ = (parse(&line), parse_template(&line));
    }
}
