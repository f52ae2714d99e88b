use super::*;

fn shown(counts: &[(Protocol, u16, u64)]) -> FxHashMap<(Protocol, u16), u64> {
    counts.iter().map(|(protocol, port, count)| ((*protocol, *port), *count)).collect()
}

#[test]
fn totals_never_fall() {
    use Protocol::{Sctp, Tcp, Udp};
    let mut refused = RefusedOnLoopback::default();
    let mut check = |counts: &[_], expected: [u64; 3]| {
        refused.add_up(shown(counts));
        assert_eq!([Tcp, Udp, Sctp].map(|protocol| refused.packets(protocol)), expected);
    };
    check(&[(Sctp, 30_001, 2), (Sctp, 30_002, 1), (Udp, 30_001, 4)], [0, 4, 3]);
    check(&[(Sctp, 30_001, 5), (Sctp, 30_002, 1), (Udp, 30_001, 4)], [0, 4, 6]);
    // One is gone, one was written again and counted two more.
    check(&[(Sctp, 30_001, 2)], [0, 4, 8]);
    check(&[(Sctp, 30_001, 2), (Udp, 30_001, 1)], [0, 5, 8]);
    check(&[], [0, 5, 8]);
}
