use super::*;

fn server(url: &str) -> Server {
    Server::parse(url, false).unwrap()
}

/// The proxy that variables of the environment give a server.
fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Proxy::from_environment(&server(url), variable).map(|proxy| proxy.to_string())
}

#[test]
fn the_scheme_of_the_server_decides_which_variable_counts() {
    let both = [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://p:1")];
    assert_eq!(chosen("https://a", &both).as_deref(), Some("http://s:1"));
    assert_eq!(chosen("http://a", &both).as_deref(), Some("http://p:1"));
    assert_eq!(chosen("http://a", &both[..1]), None);
    let lower = [("https_proxy", "socks5://s")];
    assert_eq!(chosen("https://a", &lower).as_deref(), Some("socks5://s:1080"));
    let empty = [("HTTPS_PROXY", ""), ("https_proxy", "https://s")];
    assert_eq!(chosen("https://a", &empty).as_deref(), Some("https://s:443"));
}

#[test]
fn a_proxy_without_scheme_speaks_http() {
    assert_eq!(chosen("https://a", &[("HTTPS_PROXY", "p:3128")]).as_deref(), Some("http://p:3128"));
    assert_eq!(chosen("https://a", &[("HTTPS_PROXY", "ftp://p")]), None);
    assert!(Proxy::parse("p:3128").is_err(), "in a kubeconfig it has to be a URL");
}

#[test]
fn this_machine_is_reached_directly() {
    for url in ["https://localhost:6443", "https://127.0.0.1", "https://127.9.9.9", "https://[::1]"]
    {
        assert_eq!(chosen(url, &[("HTTPS_PROXY", "http://p")]), None, "{url}");
    }
}

#[test]
fn no_proxy_names_servers() {
    let direct = |url: &str, exceptions: &str| {
        let variables = [("HTTPS_PROXY", "http://p"), ("NO_PROXY", exceptions)];
        chosen(url, &variables).is_none()
    };
    for (exceptions, url, expected) in [
        ("api.example.com", "https://api.example.com:6443", true),
        ("API.Example.com", "https://api.example.com", true),
        ("example.com", "https://api.example.com", true),
        ("example.com", "https://badexample.com", false),
        (".example.com", "https://api.example.com", true),
        (".example.com", "https://example.com", false),
        ("*.example.com", "https://api.example.com", true),
        ("*.example.com", "https://example.com", false),
        ("x, *", "https://api.example.com", true),
        ("api.example.com:6443", "https://api.example.com:6443", true),
        ("api.example.com:443", "https://api.example.com:6443", false),
        ("api.example.com:443", "https://api.example.com", true),
        ("10.0.0.1", "https://10.0.0.1:6443", true),
        ("10.0.0.1:6443", "https://10.0.0.1:6443", true),
        ("10.0.0.1:443", "https://10.0.0.1:6443", false),
        ("10.0.0.2", "https://10.0.0.1", false),
        (" a , 10.0.0.0/8 ", "https://10.1.2.3", true),
        ("10.0.0.0/8", "https://11.0.0.1", false),
        ("10.0.0.0/8", "https://ten.example.com", false),
        ("2001:db8::/32", "https://[2001:db8::1]", true),
        ("[2001:db8::1]", "https://[2001:db8::1]", true),
        ("2001:db8::1", "https://[2001:db8:0::1]:6443", true),
        ("[2001:db8::1]:6443", "https://[2001:db8::1]:6443", true),
        ("[2001:db8::1]:443", "https://[2001:db8::1]:6443", false),
        ("::ffff:10.0.0.1", "https://10.0.0.1", true),
        ("", "https://10.0.0.1", false),
        (",,:443,.", "https://10.0.0.1", false),
        // The proxy's own name means nothing.
        ("p", "https://10.0.0.1", false),
    ] {
        assert_eq!(direct(url, exceptions), expected, "NO_PROXY={exceptions:?} {url}");
    }
}

#[test]
fn name_and_password_are_decoded_and_not_shown() {
    let proxy = Proxy::parse("http://me:p%40ss%3Aword@proxy.example.com:3128/").unwrap();
    assert_eq!(proxy.user, Some(("me".to_owned(), "p@ss:word".to_owned())));
    assert_eq!(format!("{proxy} {proxy:?}").matches("p@ss").count(), 0);
    assert!(!Proxy::parse("http://me:secret@:1").unwrap_err().contains("secret"));
}
