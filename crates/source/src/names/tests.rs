use super::*;

#[test]
fn the_same_text_is_the_same_allocation() {
    let names = Names::default();
    let first = names.get("kube-system");
    assert!(Arc::ptr_eq(&first, &names.clone().get("kube-system")));
    assert!(!Arc::ptr_eq(&first, &names.get("default")));
}

#[test]
fn unused_names_do_not_pile_up() {
    let names = Names::default();
    let kept: Vec<_> = (0..10).map(|i| names.get(&format!("kept-{i}"))).collect();
    for i in 0..100_000 {
        names.get(&format!("passing-{i}"));
    }
    assert!(names.len() <= MIN_LIMIT, "{}", names.len());
    for (i, name) in kept.iter().enumerate() {
        assert!(Arc::ptr_eq(name, &names.get(&format!("kept-{i}"))));
    }
}
