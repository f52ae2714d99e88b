use proptest::prelude::*;

use super::*;

/// No part of this may be left.
const SECRET: &str = "hunter2secretvalue";

#[test]
fn secrets_are_left_out_in_every_form() {
    let web_token = "eyJhbGciOi.eyJzdWIiOi.SflKxwRJ";
    let texts = [
        format!("token: {SECRET}\n"),
        format!("    token: \"{SECRET}\"\n"),
        format!("{{\"token\":\"{SECRET}\",\"next\":1}}"),
        format!("{{\"client-key-data\": \"{SECRET}\"}}"),
        format!("client-certificate-data: {SECRET}"),
        format!("password={SECRET} user=me"),
        format!("DB_PASSWORD={SECRET}"),
        format!("example.com/api-key: {SECRET}"),
        format!("Authorization: Bearer {SECRET}\n"),
        format!("-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----\n"),
        format!("https://admin:{SECRET}@10.0.0.1:6443/api"),
        format!("a secret_key='{SECRET}'"),
    ];
    for text in texts {
        let clean = left_out(&text);
        assert!(!clean.contains(SECRET), "{text}: {clean}");
        assert!(clean.contains(LEFT_OUT), "{text}: {clean}");
    }
    assert!(!left_out(&format!("sent {web_token} to it")).contains("SflKxwRJ"));
    let encoded = "QWxhZGRpbjpvcGVuIHNlc2FtZQ1QWxhZGRpbjpvcGVuIHNlc2FtZQ";
    assert_eq!(left_out(encoded), LEFT_OUT);
    // What follows is still there.
    assert!(left_out(&format!("{{\"token\":\"{SECRET}\",\"next\":1}}")).contains("\"next\":1"));
    let after = "-----BEGIN X-----\nabc\n-----END X-----\nafter\n";
    assert_eq!(left_out(after), format!("{LEFT_OUT}\nafter\n"));
}

#[test]
fn other_text_stays_as_it_is() {
    for text in [
        "2026-11-29T02:00:00Z  INFO full sync took 3.1ms family=IPv4 services=12\n",
        "-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment \"test/web:http\" -j KUBE-MARK-MASQ\n",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.001\"} 3\n",
        "net.netfilter.nf_conntrack_max = 262144",
        "a token is needed to speak to it",
        "the Secret kube-system/x and a password",
        "nf_conntrack: /sys/module/nf_conntrack/parameters/HASHSIZE0/abcdefghijklmnopqrstuvwxyz",
        "",
        "\n\n",
    ] {
        assert_eq!(left_out(text), text);
    }
}

proptest! {
    #[test]
    fn any_text_is_taken(text in "(token|secret|[:=\" \n]|-----BEGIN |-----END |[a-zé@.]){0,40}") {
        let once = left_out(&text);
        // Lines are neither joined nor made, but for those of keys.
        prop_assert!(once.lines().count() <= text.lines().count());
    }
}
