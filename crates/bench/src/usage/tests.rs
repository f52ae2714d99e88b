use super::fields;

#[test]
fn numbers_follow_the_name() {
    let stat = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 15 16 17 18 20 0";
    assert_eq!(fields(stat, 3..4), Some(vec![3]));
    assert_eq!(fields(stat, 13..17), Some(vec![15, 16, 17, 18]));
    assert_eq!(fields("nothing", 3..4), None);
}
