use super::*;

#[tokio::test]
async fn a_burst_is_free_and_the_rest_is_spread() {
    let rate = RateLimit::new(8.0, 3);
    let now = Instant::now();
    let waits: Vec<_> = (0..5).map(|_| rate.reserve(now)).collect();
    let ms = Duration::from_millis;
    assert_eq!(waits, [ms(0), ms(0), ms(0), ms(125), ms(250)]);
    let later = now + ms(10_000);
    assert_eq!(rate.reserve(later), Duration::ZERO);
}

#[tokio::test]
async fn zero_is_the_default_and_negative_no_limit() {
    let now = Instant::now();
    let default = RateLimit::new(0.0, 0);
    let free = (0..100).take_while(|_| default.reserve(now).is_zero()).count();
    assert_eq!(free, 10);
    let unlimited = RateLimit::new(-1.0, 1);
    assert!((0..1000).all(|_| unlimited.reserve(now).is_zero()));
    let odd = RateLimit::new(f32::NAN, 1);
    assert!(odd.reserve(now).is_zero());
}
