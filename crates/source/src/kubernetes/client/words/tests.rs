use super::*;

#[test]
fn no_words_of_libraries_with_links() {
    let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "see https://docs.rs/rustls");
    assert_eq!(describe(&closed), "the connection was closed in the middle");
    let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
    let inside = io::Error::new(io::ErrorKind::InvalidData, expired);
    assert_eq!(describe(&inside), "the server's certificate has expired");
    let refused = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
    assert!(describe(&refused).starts_with("the server refuses the client certificate"));
}

#[test]
fn other_errors_keep_their_text() {
    let error = io::Error::from_raw_os_error(111);
    assert_eq!(describe(&error), "Connection refused (os error 111)");
}
