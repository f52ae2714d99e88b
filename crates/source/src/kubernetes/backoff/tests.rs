use super::*;

#[test]
fn delays_grow_to_a_limit_and_start_over() {
    let start = Duration::from_millis(400);
    let max = Duration::from_secs(30);
    let mut backoff = Backoff::new(start, max);
    for round in 0..40 {
        let expected = start.saturating_mul(1 << round.min(10)).min(max);
        let delay = backoff.next(None);
        assert!(delay >= expected / 2 && delay <= expected * 3 / 2, "{round}: {delay:?}");
    }
    backoff.reset();
    assert!(backoff.next(None) <= start * 3 / 2);
}

#[test]
fn the_server_may_ask_for_more_within_reason() {
    let backoff = || Backoff::new(Duration::from_millis(400), Duration::from_secs(30));
    for (asked, least) in [(7, Duration::from_secs(7)), (1 << 40, MAX_RETRY_AFTER)] {
        let asked = Some(Duration::from_secs(asked));
        let delays: Vec<_> = (0..50).map(|_| backoff().next(asked)).collect();
        assert!(delays.iter().all(|d| *d >= least && *d <= least * 3 / 2), "{delays:?}");
        assert!(delays.iter().any(|d| *d != delays[0]), "all nodes come back at once");
    }
    assert!(backoff().next(Some(Duration::ZERO)) >= Duration::from_millis(200));
}

#[test]
fn random_numbers_differ_and_stay_in_range() {
    let numbers: Vec<f64> = (0..1000).map(|_| random()).collect();
    assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
    let low = numbers.iter().filter(|n| **n < 0.5).count();
    assert!((300..700).contains(&low), "{low}");
}
