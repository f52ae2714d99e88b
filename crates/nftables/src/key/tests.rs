use kube_proxy_core::Protocol;

use super::*;

#[test]
fn fields_are_padded_to_words() {
    let key = Key::new().ip("10.0.0.1".parse().unwrap()).protocol(Protocol::Udp).port(0x1234);
    assert_eq!(key.as_bytes(), [10, 0, 0, 1, 17, 0, 0, 0, 0x12, 0x34, 0, 0]);
}

#[test]
fn the_longest_key_fits() {
    let ip = "2001:db8::1".parse().unwrap();
    let key = Key::new().ip(ip).ip(ip).protocol(Protocol::Tcp).port(80);
    assert_eq!(key.as_bytes().len(), MAX_KEY);
    assert_eq!(Key::read(key.as_bytes(), false), Some(key));
    assert_eq!(Key::read(&[0; MAX_KEY + 1], false), None);
}

#[test]
fn an_interval_end_is_another_key() {
    let key = Key::new().ip("10.0.0.1".parse().unwrap());
    assert_ne!(key, key.interval_end());
    assert_eq!(Key::read(key.as_bytes(), true), Some(key.interval_end()));
}
