use super::*;

/// The state of a processor with components 2 and 18.
fn part(in_use: u64) -> Vec<u8> {
    let mut part = vec![0xaa; 832];
    part[HEADER..HEADER + 8].copy_from_slice(&in_use.to_le_bytes());
    part
}

#[test]
fn what_is_behind_the_part_is_initialised() {
    let part = part(0b111);
    let mut whole = vec![0x55; 1000];
    complete(&part, 1 << 18, &mut whole).unwrap();
    assert_eq!(whole[..832], part);
    assert!(whole[832..].iter().all(|byte| *byte == 0));
}

#[test]
fn nothing_is_written_when_a_component_behind_the_part_is_in_use() {
    let mut whole = vec![0x55; 1000];
    let result = complete(&part(0b111 | 1 << 18), 0b11 << 17, &mut whole);
    assert_eq!(result, Err(Incomplete::InUse(1 << 18)));
    assert!(whole.iter().all(|byte| *byte == 0x55));
}

#[test]
fn a_part_without_header_or_longer_than_the_whole_is_refused() {
    let mut whole = vec![0; 800];
    assert_eq!(complete(&part(0)[..519], 0, &mut whole), Err(Incomplete::NoHeader));
    assert_eq!(complete(&part(0), 0, &mut whole), Err(Incomplete::Longer));
}

#[test]
fn components_are_known_by_their_end() {
    let size = __cpuid_count(LEAF, 0).ebx as usize;
    assert_eq!(beyond(usize::MAX), 0);
    // All that XCR0 has enabled end within the size that the processor reports.
    let enabled = u64::from(__cpuid_count(LEAF, 0).eax);
    assert_eq!(beyond(size) & enabled, 0);
    if std::is_x86_feature_detected!("avx") {
        assert_eq!(beyond(831) & 0b100, 0b100);
        assert_eq!(beyond(832) & 0b100, 0);
    }
}
