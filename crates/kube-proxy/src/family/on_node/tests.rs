use kube_proxy_core::{
    Deviation, Frontend, FrontendQuery, KernelObject, ObjectName, Protocol, ServicePortName,
    SyncError,
};

use super::*;

fn query() -> FrontendQuery {
    let service = ServicePortName {
        service: ObjectName::new("shop", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
    };
    let to = "10.96.0.1:80".parse().unwrap();
    FrontendQuery::new(service, Frontend::Address(Protocol::Tcp, to), to)
}

fn object(name: &str, state: core::ObjectState) -> KernelObject {
    KernelObject::new("element", name, state)
}

#[test]
fn what_is_wrong_comes_first() {
    let actual = "e3: other".to_owned();
    let objects = vec![
        object("e1", core::ObjectState::AsWanted),
        object("e2", core::ObjectState::Unknown { why: "too many".to_owned() }),
        object("e3", core::ObjectState::Different { actual }),
        object("e4", core::ObjectState::InTheWay),
        object("e5", core::ObjectState::Missing),
    ];
    let shown: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let on_node = OnNode::new(&query(), Ok(Some(objects)), []);
    assert_eq!((on_node.total, on_node.wrong), (5, 3));
    let texts: Vec<_> = on_node.objects.iter().map(NodeObject::text).collect();
    assert_eq!(
        texts,
        [
            "different element e3, there is e3: other",
            "in the way: element e4",
            "missing element e5",
            "not known: element e2: too many",
            "element e1",
        ]
    );
    // The same words as everywhere.
    assert!(texts.iter().all(|text| shown.contains(text)), "{shown:?}");
    let json = serde_json::to_value(&on_node).unwrap();
    assert_eq!(json["objects"][0]["state"], "different");
    assert_eq!(json["objects"][0]["actual"], "e3: other");
    assert_eq!(json["objects"][1]["state"], "inTheWay");
    assert_eq!(
        json["objects"][4],
        serde_json::json!({"kind": "element", "name": "e1", "state": "asWanted"})
    );
    assert_eq!(serde_json::from_value::<OnNode>(json).unwrap(), on_node);
}

#[test]
fn many_objects_are_counted() {
    let objects = (0..1000).map(|n| object(&format!("e{n}"), core::ObjectState::AsWanted));
    let on_node = OnNode::new(&query(), Ok(Some(objects.collect())), []);
    assert_eq!((on_node.total, on_node.wrong, on_node.objects.len()), (1000, 0, 200));
}

#[test]
fn what_cannot_be_told_is_a_sentence() {
    let error = SyncError::Busy("another program holds the lock".to_owned());
    let on_node = OnNode::new(&query(), Err(error), []);
    assert_eq!(on_node.failure.as_deref(), Some("another program holds the lock"));
    let on_node = OnNode::new(&query(), Ok(None), []);
    assert_eq!(on_node.failure.as_deref(), Some("nothing has been written to the node yet"));
}

#[test]
fn repairs_of_the_same_objects_are_named() {
    let difference = |kind, name: &str| core::Difference::new(kind, name, Deviation::Missing);
    let found = [
        difference(
            "element",
            "frontend-ips: 10.96.0.1 . tcp . 80 : goto cluster-1 (shop/web:http)",
        ),
        difference(
            "element",
            "cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.1.0.1 . 80, there is x",
        ),
        difference("element", "frontend-ips: 10.96.0.1 . tcp . 8"),
        difference("chain", "frontend-ips: 10.96.0.1 . tcp . 80 : goto cluster-1 (shop/web:http)"),
        difference("virtual server", "tcp 10.96.0.1:80"),
        core::Difference {
            service: Some(query().service),
            ..difference("chain", "nat KUBE-SVC-X")
        },
    ];
    let repair = Repair::now(&found);
    let as_wanted = || core::ObjectState::AsWanted;
    let objects = vec![
        object("frontend-ips: 10.96.0.1 . tcp . 80 : goto cluster-1 (shop/web:http)", as_wanted()),
        object("cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.1.0.1 . 80", as_wanted()),
        KernelObject::new("virtual server", "tcp 10.96.0.1:80 with scheduler rr", as_wanted()),
    ];
    let on_node = OnNode::new(&query(), Ok(Some(objects)), [&repair]);
    let named: Vec<_> =
        on_node.repaired.iter().map(|repaired| &*repaired.difference.name).collect();
    let expected = [0, 1, 4, 5].map(|at: usize| &*found[at].name);
    assert_eq!(named, expected);
    assert!(on_node.repaired.iter().all(|repaired| repaired.at == repair.at));
}
