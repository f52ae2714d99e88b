use kube_proxy_netlink::conntrack::Tuple;

use super::*;

fn flow(status: Status, tcp_state: Option<TcpState>) -> Flow {
    let addresses = [([10, 244, 0, 9], 40_000), ([10, 96, 0, 10], 80)].map(SocketAddr::from);
    let original = Tuple::with_ports(Protocol::Tcp.number(), addresses[0], addresses[1]);
    Flow { status, tcp_state, ..Flow::new(original) }
}

/// The kernel leaves out the state of what is in a flowtable, and of nothing else.
#[test]
fn a_connection_in_a_flowtable_is_open() {
    let phase = |status, state| seen(&flow(status, state)).map(|seen| seen.phase);
    let open = Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED;
    assert_eq!(phase(open | Status::OFFLOADED, None), Some(TcpPhase::Open));
    assert_eq!(phase(open, None), None);
    assert_eq!(phase(open, Some(TcpState::ESTABLISHED)), Some(TcpPhase::Open));
    assert_eq!(phase(Status::CONFIRMED, Some(TcpState::SYN_SENT)), Some(TcpPhase::Waiting));
    assert_eq!(phase(open, Some(TcpState(7))), Some(TcpPhase::Ended));
}
