use super::*;

#[test]
fn all_sets_are_listed_in_order() {
    for (index, set) in SetId::ALL.into_iter().enumerate() {
        assert_eq!(set as usize, index);
    }
}
