//! Listeners and rules on a real kernel.
fn main() {}
