#![cfg(target_env = "gnu")]

use super::*;

/// What is resident and belongs to no file, in kilobytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn freed_memory_between_values_that_stay_goes_back() {
    let mut blocks: Vec<Option<Box<[u8]>>> =
        (0..100_000).map(|_| Some(vec![1; 1000].into_boxed_slice())).collect();
    for (number, block) in blocks.iter_mut().enumerate() {
        if number % 100 != 0 {
            *block = None;
        }
    }
    let before = resident();
    give_back();
    let after = resident();
    assert!(after + 50_000 < before, "{before} kB before, {after} kB after");
    drop(blocks);
}
