use expect_test::{Expect, expect};
use proptest::prelude::*;

use kube_proxy_yaml::Node;

use super::{known_fields, parse, strict_errors};

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn check(body: &str, expected: &Expect) {
    let text = match parse(body) {
        Ok(root) => format!("{}\n{:#?}\n", strict_errors(&root).join("\n"), plain(&root)),
        Err(problem) => format!("{:?}: {}\n", problem.at, problem.reason),
    };
    expected.assert_eq(&text);
}

fn plain(root: &Node) -> serde_json::Value {
    let mut fields = known_fields(root);
    fields.remove("apiVersion");
    fields.remove("kind");
    serde_json::to_value(&fields).unwrap()
}

#[test]
fn every_unknown_and_duplicate_field_is_found() {
    let body = format!(
        "{HEAD}mode: ipvs\nMode: x\niptables:\n  syncPeriod: 1s\n  bogus: {{a: 1}}\n  syncPeriod: 2s\n\
         logging:\n  vmodule:\n  - filePattern: a\n    level: 1\nfeatureGates:\n  Whatever: true\nmode: nftables\n"
    );
    check(
        &body,
        &expect![[r#"
        unknown field "Mode" (line 4, column 1)
        unknown field "iptables.bogus" (line 7, column 3)
        duplicate field "iptables.syncPeriod" (line 8, column 3)
        unknown field "logging.vmodule[0].level" (line 12, column 5)
        duplicate field "mode" (line 15, column 1)
        Object {
            "featureGates": Object {
                "Whatever": Bool(true),
            },
            "iptables": Object {
                "syncPeriod": String("2s"),
            },
            "logging": Object {
                "vmodule": Array [
                    Object {
                        "filePattern": String("a"),
                    },
                ],
            },
            "mode": String("nftables"),
        }
    "#]],
    );
}

#[test]
fn null_is_unset() {
    check(
        &format!("{HEAD}oomScoreAdj: null\nmode: ~\niptables:\n"),
        &expect![[r#"

        Object {}
    "#]],
    );
}

#[test]
fn json_is_read_too() {
    let body = "{\n\t\"kind\": \"KubeProxyConfiguration\",\n\t\"apiVersion\": \"kubeproxy.config.k8s.io/v1alpha1\",\n\
                \t\"iptables\": {\"masqueradeBit\": 0, \"x\": 1}\n}\n";
    check(
        body,
        &expect![[r#"
        unknown field "iptables.x" (line 4, column 35)
        Object {
            "iptables": Object {
                "masqueradeBit": Number(0),
            },
        }
    "#]],
    );
}

#[test]
fn other_documents_are_refused() {
    check(
        "",
        &expect![[r#"
        None: the document is empty
    "#]],
    );
    check(
        "[]",
        &expect![[r#"
        Some((1, 1)): a KubeProxyConfiguration object is expected
    "#]],
    );
    check(
        "kind: KubeProxyConfiguration",
        &expect![[r#"
        None: apiVersion is missing; "kubeproxy.config.k8s.io/v1alpha1" is expected
    "#]],
    );
    check(
        "apiVersion: kubeproxy.config.k8s.io/v1beta1\nkind: KubeProxyConfiguration",
        &expect![[r#"
        Some((1, 13)): apiVersion: "kubeproxy.config.k8s.io/v1alpha1" is expected, not string "kubeproxy.config.k8s.io/v1beta1"
    "#]],
    );
    check(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: Service",
        &expect![[r#"
        Some((2, 7)): kind: "KubeProxyConfiguration" is expected, not string "Service"
    "#]],
    );
    check(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: 5",
        &expect![[r#"
        Some((2, 7)): kind: "KubeProxyConfiguration" is expected, not unsigned int `5`
    "#]],
    );
    check(
        "a: [1\nb: 2",
        &expect![[r#"
        Some((2, 2)): illegal placement of ':' indicator
    "#]],
    );
    check(
        "a: b: c",
        &expect![[r#"
        Some((1, 5)): mapping values are not allowed in this context
    "#]],
    );
    check(
        &format!("{HEAD}---\n{HEAD}"),
        &expect![[r#"
        Some((4, 1)): a second document; one is expected
    "#]],
    );
    check(
        &format!("{HEAD}---\n"),
        &expect![[r#"

        Object {}
    "#]],
    );
}

#[test]
fn depth_is_limited() {
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&"a: {".repeat(100_000)).is_err());
}

proptest! {
    #[test]
    fn never_panics(body in "(?s).*", with_head in any::<bool>()) {
        let head = if with_head { HEAD } else { "" };
        if let Ok(root) = parse(&format!("{head}{body}")) {
            let _ = (strict_errors(&root), known_fields(&root));
        }
    }

    #[test]
    fn never_panics_on_yaml_like_text(body in "([a-z]{1,3}: ?|[&*]a |- |\\[|\\]|\\{|\\}|\"|<<: |\n *|[0-9]+|!!?[a-z]* ?){0,30}") {
        if let Ok(root) = parse(&format!("{HEAD}{body}")) {
            let _ = (strict_errors(&root), known_fields(&root));
        }
    }
}
