use proptest::prelude::*;

use super::*;

fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_be_bytes(), content].concat()
}

proptest! {
    /// However the bytes are cut into chunks, the same frames come out; what is not complete does not.
    #[test]
    fn chunks_do_not_matter(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8), rest in 0usize..7, size in 1usize..400) {
        let mut bytes = frames.iter().flat_map(|content| frame(content)).collect::<Vec<_>>();
        bytes.extend_from_slice(&frame(b"abc")[..rest]);
        let mut reader = Events::new(Format::Protobuf);
        let mut found = Vec::new();
        for chunk in bytes.chunks(size) {
            prop_assert!(reader.push(chunk).is_ok());
            while let Some(content) = reader.next().unwrap() {
                found.push(content.to_vec());
            }
        }
        prop_assert_eq!(found, frames);
        prop_assert_eq!(reader.has_rest(), rest > 0);
    }

    #[test]
    fn any_bytes_are_survived(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..9)) {
        let mut reader = Events::new(Format::Protobuf);
        for chunk in chunks {
            let _ = reader.push(&chunk);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}

#[test]
fn a_frame_has_a_greatest_length_and_is_refused_by_its_head() {
    for (length, good) in [(MAX_EVENT, true), (MAX_EVENT + 1, false), (u32::MAX as usize, false)] {
        let mut reader = Events::new(Format::Protobuf);
        reader.push(&u32::try_from(length).unwrap().to_be_bytes()).unwrap();
        assert_eq!(reader.next().is_ok(), good, "{length}");
    }
}
