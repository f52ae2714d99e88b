use super::*;

fn spread(pods: &[(&str, usize)], refused: usize) -> Spread {
    let mut spread = Spread::default();
    spread.pods.extend(pods.iter().map(|&(pod, count)| (pod.to_owned(), count)));
    for _ in 0..refused {
        spread.count(&Outcome::Refused);
    }
    spread
}

#[test]
fn even_within_chance() {
    spread(&[("a", 45), ("b", 55)], 0).check_even(&["b", "a"]).unwrap();
    spread(&[("a", 10)], 0).check_even(&["a"]).unwrap();
}

#[test]
fn weighted_within_chance() {
    let shares = [("b", 3), ("a", 1)];
    spread(&[("a", 20), ("b", 80)], 0).check_weighted(&shares).unwrap();
    spread(&[("a", 55), ("b", 45)], 0).check_weighted(&shares).unwrap_err();
    spread(&[("b", 100)], 0).check_weighted(&shares).unwrap_err();
}

#[test]
fn uneven_missing_surplus_or_failed() {
    for (spread, pods) in [
        (spread(&[("a", 90), ("b", 10)], 0), &["a", "b"][..]),
        (spread(&[("a", 100)], 0), &["a", "b"]),
        (spread(&[("a", 50), ("b", 50)], 0), &["a"]),
        (spread(&[("a", 50), ("b", 50)], 1), &["a", "b"]),
        (spread(&[], 0), &["a"]),
    ] {
        assert!(spread.check_even(pods).is_err(), "{spread} over {pods:?}");
    }
}

#[test]
fn sum_and_total() {
    let sum: Spread = [spread(&[("a", 1)], 1), spread(&[("a", 2), ("b", 1)], 0)].into_iter().sum();
    assert_eq!(sum, spread(&[("a", 3), ("b", 1)], 1));
    assert_eq!(sum.total(), 5);
    assert_eq!(sum.to_string(), "3 x a, 1 x b, 1 x refused");
}
