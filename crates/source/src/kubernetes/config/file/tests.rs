use secrecy::{ExposeSecret, SecretString};

use super::*;

const GOOD: &str = "current-context: c\nclusters:\n- name: k\n  cluster:\n    server: https://a\n\
                    contexts:\n- name: c\n  context:\n    cluster: k\n    user: u\n\
                    users:\n- name: u\n  user:\n    token: t\n";

fn shown(config: &Kubeconfig) -> Result<String, String> {
    let (cluster, user) = select(config, false)?;
    Ok(format!("{:?} {:?}", cluster.server, user.token.as_ref().map(SecretString::expose_secret)))
}

fn selected(text: &str) -> Result<String, String> {
    shown(&parse(text)?)
}

/// Through a file, in the bytes of an editor.
fn read(bytes: &[u8]) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    shown(&super::read(file.path())?)
}

const EXPECTED: &str = r#"Some("https://a") Some("t")"#;

#[test]
fn bytes_of_all_editors() {
    assert_eq!(read(GOOD.as_bytes()).unwrap(), EXPECTED);
    assert_eq!(read(GOOD.replace('\n', "\r\n").as_bytes()).unwrap(), EXPECTED);
    assert_eq!(read(format!("\u{feff}{GOOD}").as_bytes()).unwrap(), EXPECTED);
    let wide = |order: fn(u16) -> [u8; 2]| {
        let marked = format!("\u{feff}{GOOD}");
        marked.encode_utf16().flat_map(order).collect::<Vec<_>>()
    };
    assert_eq!(read(&wide(u16::to_le_bytes)).unwrap(), EXPECTED);
    assert_eq!(read(&wide(u16::to_be_bytes)).unwrap(), EXPECTED);
    assert!(read(&[0xff, 0xfe, 0]).is_err());
    assert!(read(&[b'a', 0xff]).unwrap_err().contains("UTF-8"));
}

#[test]
fn shapes_of_all_templates() {
    let json = r#"{"current-context": "c", "clusters": [{"name": "k", "cluster": {"server": "https://a"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}], "preferences": {}, "other": null}"#;
    assert_eq!(selected(json).unwrap(), EXPECTED);
    assert_eq!(
        selected(&format!("---\n# made by a template\n---\n{GOOD}---\n")).unwrap(),
        EXPECTED
    );
    let nulls =
        format!("extensions: ~\n{GOOD}    exec: ~\n    auth-provider: null\n    as-groups:\n");
    assert_eq!(selected(&nulls).unwrap(), EXPECTED);
    let blanks = GOOD.replace("current-context: c", "current-context: ' c '");
    assert_eq!(selected(&blanks).unwrap(), EXPECTED);
    let number = GOOD.replace("token: t", "token: 1234");
    assert_eq!(selected(&number).unwrap(), r#"Some("https://a") Some("1234")"#);
    let unknown = GOOD.replace("user: u", "user: nobody");
    assert_eq!(selected(&unknown).unwrap(), r#"Some("https://a") None"#);
}

/// client-go reads the first only; more of them add what the first does not name.
#[test]
fn several_documents() {
    let other = GOOD.replace("https://a", "https://b").replace("token: t", "token: other");
    assert_eq!(selected(&format!("{GOOD}---\n{other}")).unwrap(), EXPECTED);
    assert_eq!(selected(&format!("{GOOD}---\ncurrent-context: d\n")).unwrap(), EXPECTED);
    assert_eq!(selected(&format!("{GOOD}---\n{GOOD}")).unwrap(), EXPECTED);
    let error = selected(&format!("{GOOD}---\njust text\n")).unwrap_err();
    assert!(error.contains("not a kubeconfig"), "{error}");
}

/// No context is chosen for want of others.
#[test]
fn the_current_context_is_named_also_where_there_is_one() {
    for unset in ["current-context: ''", "current-context: ' '", "current-context: null", "a: b"] {
        let text = GOOD.replace("current-context: c", unset);
        assert_eq!(selected(&text).unwrap_err(), "current-context is not set", "{unset}");
    }
}

#[test]
fn extensions_may_stand_anywhere() {
    let extension = "extensions: [{name: minikube, extension: {last-update: x, version: 1}}]";
    let text = format!(
        "{{current-context: c, {extension}, clusters: [{{name: k, cluster: {{server: https://a, {extension}}}}}], \
         contexts: [{{name: c, context: {{cluster: k, user: u, namespace: n, {extension}}}}}], \
         users: [{{name: u, user: {{token: t, {extension}}}}}], \
         preferences: {{colors: true, {extension}}}}}"
    );
    assert_eq!(selected(&text).unwrap(), EXPECTED);
}

#[test]
fn what_is_no_kubeconfig_is_said() {
    for (text, part) in [
        ("", "current-context is not set"),
        ("---\n", "current-context is not set"),
        ("{}", "current-context is not set"),
        ("just text", "not a kubeconfig"),
        ("[1, 2]", "not a kubeconfig"),
        ("a: b: c", "not a kubeconfig"),
        ("current-context: c\n\tclusters: []", "not a kubeconfig"),
        ("clusters: {a: b}", "not a kubeconfig"),
        ("current-context: c", "\"c\" is not among contexts (there are none)"),
        ("{current-context: c, contexts: [{name: d}]}", "\"c\" is not among contexts: d"),
        ("{current-context: c, contexts: [{name: c}]}", "\"c\" is not among contexts: c"),
        ("{current-context: c, contexts: [{name: c, context: {}}]}", "missing field `cluster`"),
        (
            "{current-context: c, contexts: [{name: c, context: {cluster: ' '}}]}",
            "names no cluster",
        ),
        (
            "{current-context: c, contexts: [{name: c, context: {cluster: k}}]}",
            "\"k\" of the context \"c\" is not among clusters",
        ),
        ("{users: [{name: u}, {name: u}]}", "users has two entries with the name \"u\""),
        ("{clusters: [{name: u}, {name: ' u'}]}", "clusters has two entries"),
    ] {
        let error = selected(text).unwrap_err();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn errors_do_not_repeat_secrets() {
    let text = GOOD.replace("token: t", "token: [SECRET]");
    assert!(!selected(&text).unwrap_err().contains("SECRET"));
}
