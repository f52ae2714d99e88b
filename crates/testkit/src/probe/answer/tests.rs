use super::*;

fn sent() -> SocketAddr {
    "10.0.0.1:5".parse().unwrap()
}

#[test]
fn greeting_and_echo() {
    let greeting = Answer::parse("pod=a local=1.2.3.4:80 peer=10.0.0.1:6\n", sent()).unwrap();
    assert_eq!(greeting.pod, "a");
    assert_eq!(greeting.echo, None);
    assert!(!greeting.is_masqueraded(), "a changed port alone is no masquerading");
    let line = "pod=b local=[::1]:80 peer=[::2]:7 echo=pod=x y\n";
    let echo = Answer::parse(line, sent()).unwrap();
    assert_eq!(echo.pod, "b");
    assert_eq!(echo.echo.as_deref(), Some("pod=x y"));
    assert!(echo.is_masqueraded());
}

#[test]
fn anything_else_is_an_error() {
    for line in ["", "hello", "pod=a local=1.2.3.4:80", "pod=a local=here peer=1.2.3.4:5"] {
        assert!(Answer::parse(line, sent()).is_err(), "{line:?}");
    }
}

#[test]
fn errors_of_connect() {
    let outcome = |errno: Errno| Outcome::from_connect_error(&errno.into());
    assert_eq!(outcome(Errno::ECONNREFUSED), Outcome::Refused);
    assert_eq!(outcome(Errno::EAGAIN), Outcome::TimedOut);
    assert_eq!(outcome(Errno::ETIMEDOUT), Outcome::TimedOut);
    assert_eq!(outcome(Errno::EHOSTUNREACH), Outcome::Unreachable(Errno::EHOSTUNREACH));
}
