use serde_json::json;

use super::super::object::Object;
use super::super::resource::TypeId;
use super::Selector;

fn service() -> Object {
    let kind = TypeId::by_kind("v1", "Service").unwrap();
    let value = json!({
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "tier": "front", "empty": ""}},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": true},
    });
    let serde_json::Value::Object(object) = value else { panic!("not an object") };
    Object::encode(kind, "shop", "web", 7, object)
}

fn matches(labels: &str, fields: &str) -> bool {
    Selector::parse(None, labels, fields).unwrap().matches(&service())
}

#[test]
fn label_selectors() {
    for (selector, expected) in [
        ("", true),
        ("app=web", true),
        ("app == web,tier=front", true),
        ("app=api", false),
        ("app!=api", true),
        ("app!=web", false),
        ("absent!=web", true),
        ("app in (api, web),tier", true),
        ("app in (api)", false),
        ("app notin (api,db)", true),
        ("app notin (web)", false),
        ("absent notin (web)", true),
        ("empty=", true),
        ("empty", true),
        ("!empty", false),
        ("!service.kubernetes.io/service-proxy-name", true),
        ("service.kubernetes.io/service-proxy-name", false),
    ] {
        assert_eq!(matches(selector, ""), expected, "{selector}");
    }
}

#[test]
fn field_selectors() {
    for (selector, expected) in [
        ("metadata.name=web", true),
        ("metadata.name==web,metadata.namespace=shop", true),
        ("metadata.name!=web", false),
        ("spec.clusterIP!=None", false),
        ("spec.clusterIP=None", true),
        ("spec.publishNotReadyAddresses=true", true),
        ("spec.absent.deeper=", true),
        ("spec.absent=x", false),
    ] {
        assert_eq!(matches("", selector), expected, "{selector}");
    }
}

#[test]
fn nonsense_is_refused() {
    for labels in ["a in b", "a in (b", "=x", "!", "a within (b)", "a b"] {
        let error = Selector::parse(None, labels, "").unwrap_err();
        assert_eq!((error.code, error.reason), (400, "BadRequest"), "{labels}");
    }
    assert!(Selector::parse(None, "", "metadata.name").is_err());
}

#[test]
fn a_namespace_restricts() {
    assert!(Selector::parse(Some("shop"), "", "").unwrap().matches(&service()));
    assert!(!Selector::parse(Some("other"), "", "").unwrap().matches(&service()));
}
