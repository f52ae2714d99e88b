use std::fs;

use super::{PATH, draw};
use crate::workspace;

#[test]
fn the_picture_is_the_one_that_is_drawn() {
    let stored = fs::read_to_string(workspace::root().join(PATH)).unwrap_or_default();
    assert!(stored == draw(), "{PATH} is not up to date: cargo xtask picture");
}

#[test]
fn the_picture_is_closed() {
    let svg = draw();
    for tag in ["svg", "title", "text"] {
        let opened = svg.matches(&format!("<{tag}")).count();
        assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}
