use super::*;

#[test]
fn what_is_a_token() {
    for (written, sent) in [
        ("abc", "Bearer abc"),
        (" abc\r\n", "Bearer abc"),
        ("\u{feff}abc\n\n", "Bearer abc"),
        ("a.b-c_d~e+f/g==", "Bearer a.b-c_d~e+f/g=="),
    ] {
        let header = bearer(written).unwrap();
        assert_eq!(header, sent);
        assert!(header.is_sensitive());
    }
    for (written, part) in [
        ("", "empty"),
        (" \n", "empty"),
        ("a b", "at byte 2"),
        ("a\nb", "at byte 2"),
        ("a\0", "at byte 2"),
        ("tökén", "at byte 2"),
    ] {
        let error = bearer(written).unwrap_err();
        assert!(error.contains(part), "{written:?}: {error}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let token = Credentials::token("secret").unwrap();
    let basic = Credentials::basic("name", "secret");
    assert_eq!(format!("{token:?} {basic:?}"), "Header Header");
    let Credentials::Header(header) = basic else { panic!() };
    assert_eq!(header, "Basic bmFtZTpzZWNyZXQ=");
    assert_eq!(format!("{header:?}"), "Sensitive");
}
