use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use nix::errno::Errno;

use super::{lacks_ipv6, listen, listen_in_one_family};

fn run(test: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    test();
}

fn connects(ip: &str, port: u16) -> bool {
    TcpStream::connect(SocketAddr::new(ip.parse().unwrap(), port)).is_ok()
}

fn has_ipv6() -> bool {
    std::net::UdpSocket::bind("[::1]:0").is_ok()
}

#[test]
fn a_wildcard_is_both_families() {
    run(|| {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let listener = listen(wildcard.parse().unwrap()).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(connects("127.0.0.1", port), "{wildcard}");
            assert_eq!(connects("::1", port), has_ipv6(), "{wildcard}");
        }
    });
}

#[test]
fn any_other_address_is_just_that_one() {
    run(|| {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(
            connects("127.0.0.1", port) && !connects("::1", port) && !connects("127.0.0.2", port)
        );
    });
}

#[test]
fn in_one_family_both_wildcards_fit_on_one_port() {
    if !has_ipv6() {
        return;
    }
    run(|| {
        let v6 = listen_in_one_family("[::]:0".parse().unwrap()).unwrap();
        let port = v6.local_addr().unwrap().port();
        let v4: IpAddr = "0.0.0.0".parse().unwrap();
        let _v4 = listen_in_one_family(SocketAddr::new(v4, port)).unwrap();
    });
}

#[test]
fn a_port_in_use_is_no_lack_of_ipv6() {
    let error = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
    // What `ipv6.disable=1` answers.
    assert!(lacks_ipv6(&error(Errno::EAFNOSUPPORT)));
    assert!(!lacks_ipv6(&error(Errno::EADDRINUSE)) && !lacks_ipv6(&error(Errno::EACCES)));
    run(|| {
        let first = listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    });
}
