use super::*;

#[test]
fn the_last_one_takes_it_away() {
    let share = Share::ClusterIp([10, 0, 0, 1].into());
    let mut shares = Shares::default();
    let mut touched = Touched::default();
    shares.add(share, &mut touched);
    shares.add(share, &mut touched);
    assert_eq!(shares.differences(&touched), (vec![share], vec![]));
    let mut touched = Touched::default();
    shares.remove(share, &mut touched);
    assert_eq!(shares.differences(&touched), (vec![], vec![]));
    shares.remove(share, &mut touched);
    assert_eq!(shares.differences(&touched), (vec![], vec![share]));
    // What comes and goes in one change is no change.
    let mut touched = Touched::default();
    shares.add(share, &mut touched);
    shares.remove(share, &mut touched);
    shares.remove(share, &mut touched);
    assert_eq!(shares.differences(&touched), (vec![], vec![]));
    assert_eq!(shares, Shares::default());
}
