use std::sync::LazyLock;

use proptest::prelude::*;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

use super::*;

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn times_of_both_encodings() {
    let read = facts(&certificate(|params| {
        params.not_before = date_time_ymd(1970, 1, 2);
        params.not_after = date_time_ymd(2049, 12, 31);
    }));
    let expected = Facts { not_before: 86_400, not_after: 2_524_521_600, for_servers: true };
    assert_eq!(read, Some(expected));
    let read = facts(&certificate(|params| {
        params.not_before = date_time_ymd(2050, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
    }));
    let expected =
        Facts { not_before: 2_524_608_000, not_after: 253_402_214_400, for_servers: true };
    assert_eq!(read, Some(expected));
}

#[test]
fn purposes() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    for (purposes, expected) in [
        (vec![], true),
        (vec![ServerAuth], true),
        (vec![ClientAuth, ServerAuth], true),
        (vec![Any], true),
        (vec![ClientAuth], false),
        (vec![CodeSigning, ClientAuth], false),
    ] {
        let read = facts(&certificate(|params| params.extended_key_usages = purposes.clone()));
        assert_eq!(read.unwrap().for_servers, expected, "{purposes:?}");
    }
}

#[test]
fn what_is_cut_is_no_certificate() {
    let whole = certificate(|_| {});
    for end in 0..whole.len() {
        assert_eq!(facts(&whole[..end]), None, "{end}");
    }
}

/// Keys take time to make.
static SOME: LazyLock<Vec<u8>> = LazyLock::new(|| certificate(|_| {}));

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = facts(&bytes);
    }

    #[test]
    fn no_change_of_a_certificate_panics(at in 0..400_usize, byte in any::<u8>()) {
        let mut bytes = SOME.clone();
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = facts(&bytes);
    }
}
