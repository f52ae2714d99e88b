use std::fmt::Write as _;
use std::num::NonZeroU16;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Parsed {
    let file: Arc<Path> = Arc::from(Path::new("web.yaml"));
    parse(&file, text, "n1", &Context::default())
}

fn check(text: &str, expected: &Expect) {
    let parsed = read(text);
    let mut out = String::new();
    for object in &parsed.objects {
        let what = if object.event.is_some() { "proxied" } else { "not proxied" };
        writeln!(out, "{} {} {what}, {}", object.kind, object.name, object.place).unwrap();
        for problem in &object.problems {
            writeln!(out, "  {problem}").unwrap();
        }
    }
    for problem in &parsed.problems {
        writeln!(out, "{problem}").unwrap();
    }
    if parsed.broken {
        out.push_str("broken\n");
    }
    expected.assert_eq(&out);
}

/// What a template makes of `80`, and of numbers in general.
#[test]
fn whole_numbers_in_any_form() {
    let text = |port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  clusterIP: 10.96.0.1\n  ports: [{{port: {port}, nodePort: 3.0080e+04}}]\n"
        )
    };
    for port in ["80", "8.0e+01", "80.0", "8e1", "0x50", "0120", "0080", "8_0"] {
        let parsed = read(&text(port));
        let Some(Event::ServiceApplied(service)) = &parsed.objects[0].event else {
            panic!("{parsed:?}")
        };
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|p| (p.port.get(), p.node_port.map(NonZeroU16::get)))
            .collect();
        assert_eq!(ports, [(80, Some(30_080))], "{port}");
    }
    check(
        &text("80.5"),
        &expect![[r#"
        web.yaml, document 1: spec.ports[0].port: Service web: invalid type: floating point `80.5`, expected a whole number; what this file said before stays (line 6, column 18)
        broken
    "#]],
    );
}

#[test]
fn the_classic_example() {
    check(
        r"# An example.
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx}
spec: {replicas: 2}
---
apiVersion: v1
kind: Service
metadata:
  name: nginx-service
spec:
  clusterIP: 10.96.0.10
  selector: {app: nginx}
  ports:
  - {port: 80, targetPort: 8080}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: nginx-1
  namespace: default
  labels: {kubernetes.io/service-name: nginx-service}
addressType: IPv4
ports: [{name: '', port: 8080}]
endpoints: [{addresses: [10.244.0.2]}]
---
apiVersion: v1
kind: Node
metadata: {name: n1, namespace: oops}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12]}
",
        &expect![[r"
            Service default/nginx-service proxied, web.yaml, document 2
            EndpointSlice default/nginx-1 proxied, web.yaml, document 3
            Node n1 proxied, web.yaml, document 4
            ServiceCIDR kubernetes proxied, web.yaml, document 6
        "]],
    );
}

#[test]
fn lists_of_every_form() {
    check(
        r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "10.0.0.1"}},
            {"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"clusterIP": "10.0.0.2"}}]},
            null, 7]}
---
{"apiVersion": "v1", "kind": "ServiceList", "items": [
    {"metadata": {"name": "c", "namespace": "x"}, "spec": {"clusterIP": "None"}}]}
"#,
        &expect![[r#"
            Service default/a proxied, web.yaml, document 1
            Service default/b proxied, web.yaml, document 1
            Service x/c not proxied, web.yaml, document 2
            web.yaml, document 1: items[3]: not an object; what this file said before stays (line 5, column 19)
            broken
        "#]],
    );
}

#[test]
fn a_broken_document_is_named_and_the_next_is_read() {
    check(
        r"apiVersion: v1
kind: Service
metadata:
  name: a
 spec: {}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {clusterIP: 10.0.0.2}
--- # a comment
apiVersion: v1
kind: Service
metadata: {name: c}
spec:
  clusterIP: 10.0.0.3
  ports:
  - port: http
---
a: 1
a: 2
---
- just a list
---
[unclosed
",
        &expect![[r#"
            Service default/b proxied, web.yaml, document 2
            web.yaml, document 1: while parsing a block mapping, did not find expected key; what this file said before stays (line 5, column 2)
            web.yaml, document 3: spec.ports[0].port: Service c: invalid type: string "http", expected a whole number; what this file said before stays (line 18, column 11)
            web.yaml, document 4: the field a stands there twice; what this file said before stays (line 21, column 1)
            web.yaml, document 5: not an object with apiVersion and kind; what this file said before stays (line 23, column 1)
            web.yaml, document 6: unclosed bracket '['; what this file said before stays (line 25, column 1)
            broken
        "#]],
    );
}

#[test]
fn what_is_wrong_with_an_object_has_a_place() {
    check(
        r"
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  clusterIP: 10.0.0.1
  externalIPs:
  - 192.0.2.1
  - 192.0.2.300
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec:
  ports: [{port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: c
  labels: {app: x}
addressType: IPv4
---
kind: Service
apiVersion: v2
---
apiVersion: v1
metadata: {name: d}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: e}
  spec:
    clusterIP: 10.0.0.300
",
        &expect![[r#"
            Service default/a proxied, web.yaml, document 1
              Service default/a: spec.externalIPs[1]: "192.0.2.300": not an IP address; ignored (web.yaml, document 1, line 9, column 5)
            Service default/b not proxied, web.yaml, document 2
              Service default/b: spec.clusterIP: missing, and there is no API server to choose one; the Service is ignored (web.yaml, document 2, line 15, column 3)
            EndpointSlice default/c not proxied, web.yaml, document 3
              EndpointSlice default/c: metadata.labels[kubernetes.io/service-name]: missing, so it belongs to no Service; the slice is ignored (web.yaml, document 3, line 21, column 11)
            Service default/e not proxied, web.yaml, document 6
              Service default/e: spec.clusterIP: "10.0.0.300": not an IP address; ignored (web.yaml, document 6, line 37, column 16)
            web.yaml, document 4: apiVersion: "v2": not the apiVersion of a Service; what this file said before stays (line 25, column 13)
            web.yaml, document 5: kind: missing; what this file said before stays (line 27, column 1)
            broken
        "#]],
    );
}

#[test]
fn documents_are_split_at_markers_and_empty_ones_do_not_count() {
    let text = "\u{feff}# only a comment\n---\n%YAML 1.2\n---\na: |\n  ---x\n  text\n---\n\n---\tb\n...\n---\r\nc: 1\r\n";
    let documents = split(text);
    let starts: Vec<_> = documents.iter().map(|d| (d.lines_before, d.text)).collect();
    assert_eq!(
        starts,
        [(3, "---\na: |\n  ---x\n  text\n"), (9, "---\tb\n...\n"), (11, "---\r\nc: 1\r\n")]
    );
    assert!(split("").is_empty());
}

#[test]
fn big_lists_are_within_the_limits() {
    let mut text = String::from("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n");
    text.push_str("metadata: {name: s, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints:\n");
    for i in 0..100_000 {
        writeln!(text, "- addresses: [10.{}.{}.{}]", i >> 16, (i >> 8) & 255, i & 255).unwrap();
    }
    let parsed = read(&text);
    match &parsed.objects[..] {
        [Loaded { event: Some(Event::EndpointSliceApplied(slice)), .. }] => {
            assert_eq!(slice.endpoints.len(), 100_000);
        }
        _ => panic!("{:?}", parsed.problems),
    }
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(text, "a{i}: &a{i} [{items}]").unwrap();
    }
    let parsed = read(&text);
    assert!(parsed.broken);
    assert_eq!(parsed.problems.len(), 1);
}

/// Each use of the alias copies the text.
#[test]
fn aliases_of_long_text_cannot_blow_up() {
    let long = "x".repeat(1 << 20);
    let uses = vec!["*a"; 100].join(", ");
    let parsed = read(&format!("a: &a \"{long}\"\nb: [{uses}]\n"));
    assert!(parsed.broken);
    let problem = parsed.problems[0].to_string();
    assert!(problem.contains("ScalarBytes"), "{problem}");
}

/// The limit on aliases is none on the text itself, even where each escape of two bytes stands for three.
#[test]
fn long_texts_are_within_the_limits() {
    let note = "\\L".repeat(40 << 20);
    let parsed = read(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a, annotations: {{n: \"{note}\"}}}}\n\
         spec: {{clusterIP: 10.0.0.1, ports: [{{port: 80}}]}}\n"
    ));
    assert_eq!((parsed.problems.len(), parsed.objects.len()), (0, 1));
}

#[test]
fn items_that_are_no_list_are_a_problem() {
    for kind in ["List", "ServiceList"] {
        let parsed = read(&format!("apiVersion: v1\nkind: {kind}\nitems: {{a: b}}\n"));
        let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "web.yaml, document 1: items: not a list; what this file said before stays (line 3, column 8)"
            ]
        );
        assert!(parsed.broken);
    }
    assert!(!read("apiVersion: x/v1\nkind: ThingList\nitems: {a: b}\n").broken);
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "[a-z0-9:{}\\[\\]&*!|>'\"%@`,#? \n\t-]{0,200}") {
        read(&text);
    }

    #[test]
    fn any_bytes_in_a_service_are_survived(text in "\\PC{0,60}", more in "[ a-z:\n-]{0,40}") {
        read(&format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {text}\nspec: {more}\n"));
    }
}
