use super::quantile;

#[test]
fn quantiles_lie_between_neighbours() {
    let values = [4.0, 1.0, 3.0, 2.0];
    let quantiles = [0.0, 0.5, 0.9, 1.0].map(|share| quantile(&values, share));
    let wanted = [1.0, 2.5, 3.7, 4.0];
    assert!(quantiles.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{quantiles:?}");
    assert!(quantile(&[], 0.5).abs() < 1e-9);
}
