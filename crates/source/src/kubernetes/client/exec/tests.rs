use serde_json::Value;

use super::*;

fn plugin(exec: Value) -> Result<Plugin, String> {
    let exec: ExecConfig = serde_json::from_value(exec).unwrap();
    Plugin::new(&exec, &Cluster::default(), Duration::from_millis(300))
}

fn shell(script: &str) -> Plugin {
    let version = VERSIONS[0];
    plugin(json!({"apiVersion": version, "command": "sh", "args": ["-c", script]})).unwrap()
}

fn presented(plugin: &Plugin) -> Result<Presented, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(plugin.present())
}

#[test]
fn what_is_no_plugin() {
    for (exec, part) in [
        (json!({}), "command"),
        (json!({"command": "x"}), "apiVersion is \"\""),
        (
            json!({"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}),
            "v1alpha1",
        ),
        (
            json!({"command": "x", "apiVersion": VERSIONS[0], "interactiveMode": "Always"}),
            "no terminal",
        ),
    ] {
        let error = plugin(exec).map(|_| ()).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_programs_do_wrong() {
    let status = |status: &str| {
        format!("echo '{{\"apiVersion\": \"{}\", \"status\": {status}}}'", VERSIONS[0])
    };
    for (script, part) in [
        ("exit 3".to_owned(), "exit status: 3: it wrote nothing"),
        ("echo 'log in'; echo first >&2; exit 1".to_owned(), "exit status: 1: first"),
        ("echo hello".to_owned(), "no ExecCredential in JSON"),
        (String::new(), "no ExecCredential in JSON"),
        ("echo '{}'".to_owned(), "apiVersion \"\""),
        (status("null"), "no status"),
        (status("{}"), "neither a token nor a certificate"),
        (status("{\"token\": \" \"}"), "neither a token nor a certificate"),
        (status("{\"token\": \"a b\"}"), "at byte 2"),
        (status("{\"clientKeyData\": \"k\"}"), "without a key"),
        (
            status("{\"token\": \"t\", \"expirationTimestamp\": \"soon\"}"),
            "expirationTimestamp \"soon\"",
        ),
        ("exec sleep 600".to_owned(), "did not end within 300ms"),
    ] {
        let error = presented(&shell(&script)).map(|_| ()).unwrap_err();
        assert!(error.contains(part) && error.contains("plugin sh"), "{script}: {error}");
    }
}

#[test]
fn a_program_that_is_not_there_comes_with_its_hint() {
    let version = VERSIONS[1];
    let exec = json!({"apiVersion": version, "command": "/none", "installHint": "Get it from x."});
    let error = presented(&plugin(exec).unwrap()).map(|_| ()).unwrap_err();
    assert!(error.contains("/none") && error.contains("Get it from x"), "{error}");
}

#[test]
fn the_end_of_time_is_no_end() {
    let output = format!(
        "{{\"apiVersion\": \"{}\", \"status\": {{\"token\": \"t\", \"expirationTimestamp\": \"9999-12-31T23:59:59Z\"}}}}",
        VERSIONS[0]
    );
    let provided = shell("").read(output.as_bytes(), Instant::now()).unwrap();
    assert!(provided.is_valid() && provided.expires.is_none());
}
