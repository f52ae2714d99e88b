use proptest::prelude::*;

use super::*;

proptest! {
    /// However a text is cut into chunks, the same lines come out; what has no end yet does not.
    #[test]
    fn chunks_do_not_matter(lines in prop::collection::vec("[a-c]{0,6}", 0..8), rest in "[a-c]{0,3}", size in 1usize..9) {
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        text.push_str(&rest);
        let mut reader = Lines::default();
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            prop_assert!(reader.push(chunk).is_ok());
            while let Some(line) = reader.next() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        let expected: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_line_has_a_greatest_length() {
    let mut reader = Lines::default();
    let chunk = vec![b'x'; MAX_EVENT / 4];
    for _ in 0..4 {
        assert!(reader.push(&chunk).is_ok());
    }
    assert!(reader.push(&chunk).is_err());
}
