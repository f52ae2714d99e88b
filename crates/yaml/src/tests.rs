use proptest::prelude::*;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::{Content, Node};

fn read(text: &str) -> Node {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).unwrap()
}

fn at(root: &Node, path: &[&str]) -> Option<(u64, u64)> {
    root.find(path).and_then(Node::place)
}

#[test]
fn values_and_keys_have_their_places() {
    let root = read("a:\n  b: [1, {c: x}]\nd: ~\n");
    assert_eq!(at(&root, &["a", "b", "0"]), Some((2, 7)));
    assert_eq!(at(&root, &["a", "b", "1", "c"]), Some((2, 14)));
    assert_eq!(root.find(&["d"]).unwrap().content, Content::Null);
    let Content::Map(entries) = &root.content else { panic!("{root:?}") };
    assert_eq!((entries[1].0.name.as_str(), entries[1].0.line, entries[1].0.column), ("d", 3, 1));
}

#[test]
fn json_is_yaml() {
    let root = read("{\"a\": [true, 1.5],\n \"b\": \"t\"}");
    assert_eq!(at(&root, &["b"]), Some((2, 7)));
    assert_eq!(root.find(&["a", "0"]).unwrap().content, Content::Bool(true));
    assert_eq!(root.find(&["a", "1"]).unwrap().content, Content::Float(1.5));
}

#[test]
fn an_alias_is_where_it_is_used() {
    let root = read("a: &x {p: 1}\nb: *x\n");
    assert_eq!(at(&root, &["b"]), Some((2, 4)));
    assert_eq!(root.find(&["b", "p"]).unwrap().content, Content::Integer(1));
}

#[test]
fn of_duplicates_the_last_counts() {
    let root = read("a: 1\nb: 2\na: 3\n");
    assert_eq!(root.find(&["a"]).unwrap().content, Content::Integer(3));
}

#[test]
fn a_path_ends_at_what_exists() {
    let root = read("a:\n  b: [1]\n");
    assert_eq!(root.find(&["a", "b", "1"]), None);
    assert_eq!(root.find(&["a", "b", "x"]), None);
    assert_eq!(root.nearest(["a", "b", "1", "z"]).place(), at(&root, &["a", "b"]));
    assert_eq!(root.nearest(["nothing"]), &root);
}

#[test]
fn numbers_beyond_every_integer_type_are_read() {
    let root = read("a: 340282366920938463463374607431768211455\nb: -5\n");
    assert!(matches!(root.find(&["a"]).unwrap().content, Content::Float(_) | Content::Text(_)));
    assert_eq!(root.find(&["b"]).unwrap().content, Content::Integer(-5));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ \\n:\\-\\[\\]{},&*!|>'\"#a0~.]{0,60}") {
        let options = serde_saphyr::options! { with_snippet: false };
        let _: Result<Node, _> = serde_saphyr::from_str_with_options(&text, options);
    }
}
