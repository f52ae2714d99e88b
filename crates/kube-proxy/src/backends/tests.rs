use super::modes;
use crate::config::Mode;

#[test]
fn every_mode_has_the_entry_of_its_own() {
    let of_entries: Vec<Mode> = modes().map(|entry| entry.mode).collect();
    assert_eq!(of_entries, Mode::ALL);
}
