use super::*;

#[test]
fn names_of_branches_are_unique_within_a_table() {
    for (index, list) in LISTS.iter().enumerate() {
        for other in &LISTS[index + 1..] {
            assert!(list.table != other.table || list.branches != other.branches);
        }
        assert!(crate::layout::is_ours(list.table.name(), list.root), "{}", list.root);
        let branch = format!("{}10.0.0.0-8", list.branches);
        assert!(crate::layout::is_dynamic(&branch), "{branch}");
    }
}
