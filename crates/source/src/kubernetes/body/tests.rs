use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn collect(bytes: &[u8], size: usize, limit: usize) -> io::Result<Vec<u8>> {
    let mut collector = Collector::new(true, limit);
    for chunk in bytes.chunks(size) {
        collector.push(chunk)?;
    }
    collector.finish()
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(bytes in prop::collection::vec(0u8..4, 0..9000), size in 1usize..3000) {
        prop_assert_eq!(collect(&gzip(&bytes), size, 10_000).unwrap(), bytes);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, byte in any::<u8>()) {
        let _ = collect(&bytes, 50, 1000);
        let mut damaged = gzip(&bytes);
        let at = at % damaged.len();
        damaged[at] = byte;
        let _ = collect(&damaged, 50, 1000);
    }
}

#[test]
fn a_body_that_is_cut_or_damaged_is_an_error() {
    let good = gzip(&[b'x'; 5000]);
    for end in 1..good.len() {
        assert!(collect(&good[..end], 7, 10_000).is_err(), "{end} of {}", good.len());
    }
    let mut wrong = good.clone();
    let checksum = wrong.len() - 8;
    wrong[checksum] ^= 1;
    assert!(collect(&wrong, 7, 10_000).is_err());
    assert!(collect(&[good, b"more".to_vec()].concat(), 7, 10_000).is_err());
}

#[test]
fn little_input_does_not_become_much_memory() {
    let bomb = gzip(&vec![0; 50_000_000]);
    assert!(bomb.len() < 300_000, "{}", bomb.len());
    let mut collector = Collector::new(true, 1_000_000);
    let error = bomb.chunks(1000).find_map(|chunk| collector.push(chunk).err()).unwrap();
    assert!(error.to_string().contains("more than 1000000 bytes"), "{error}");
    assert!(collector.so_far().len() <= 1_000_000);
    let mut plain = Collector::new(false, 10);
    assert!(plain.push(&[0; 6]).is_ok() && plain.push(&[0; 5]).is_err());
}
