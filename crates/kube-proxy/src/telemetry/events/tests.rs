use std::time::{Duration, SystemTime};

use expect_test::expect;
use k8s_openapi::api::events::v1;
use kube_proxy_core::{Algorithm, ObjectName};
use serde_json::Value;

use super::{Event, Events, QUEUE, object};

fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567)
}

/// What the Kubernetes types keep of the object.
fn through_kubernetes(object: &Value) -> Value {
    let event: v1::Event = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(event).unwrap()
}

#[test]
fn an_event_of_the_node() {
    let object = object(&Event::starting(), "node-a", time());
    expect![[r#"
        {
          "action": "StartKubeProxy",
          "apiVersion": "events.k8s.io/v1",
          "eventTime": "1970-01-15T06:56:07.000000Z",
          "kind": "Event",
          "metadata": {
            "name": "node-a.462d5077c8600",
            "namespace": "default"
          },
          "note": "",
          "reason": "Starting",
          "regarding": {
            "apiVersion": "v1",
            "kind": "Node",
            "name": "node-a"
          },
          "reportingController": "kube-proxy",
          "reportingInstance": "kube-proxy-node-a",
          "type": "Normal"
        }"#]]
    .assert_eq(&format!("{object:#}"));
    assert_eq!(through_kubernetes(&object), object, "no field is misspelt");
}

#[test]
fn an_event_of_a_service() {
    let name = ObjectName::new("shop", "cart");
    let event = Event::service_health_failed(&name, "ä".repeat(1000));
    let object = object(&event, "node-a", time());
    assert_eq!(object["metadata"]["namespace"], "shop");
    assert_eq!(object["regarding"]["uid"], "shop/cart");
    assert_eq!(object["action"], "Listen");
    assert_eq!(object["type"], "Warning");
    assert_eq!(object["note"].as_str().unwrap().len(), 1024);
    assert_eq!(through_kubernetes(&object), object, "no field is misspelt");
}

/// Each of a thousand nodes sends it, and the API server keeps one.
#[test]
fn what_every_node_says_has_one_name() {
    let name = ObjectName::new("shop", "cart");
    let name_of = |algorithm, node: &str, at| {
        let event = Event::algorithm_lacking(&name, algorithm, "iptables");
        let object = object(&event, node, at);
        assert_eq!(through_kubernetes(&object), object, "no field is misspelt");
        object["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let later = time() + Duration::from_secs(1);
    let first = name_of(Algorithm::Maglev, "node-a", time());
    assert_eq!(first, name_of(Algorithm::Maglev, "node-b", later));
    assert_ne!(first, name_of(Algorithm::SourceHash, "node-a", time()));
    let other = |at| object(&Event::starting(), "node-a", at)["metadata"]["name"].clone();
    assert_ne!(other(time()), other(later));
}

#[test]
fn a_full_queue_drops_and_never_blocks() {
    let (events, mut writer) = Events::new("node-a", None);
    for _ in 0..3 * QUEUE {
        events.send(Event::starting());
    }
    let mut queued = 0;
    while writer.receiver.try_recv().is_ok() {
        queued += 1;
    }
    assert_eq!(queued, QUEUE);
}

#[test]
fn flushing_waits_for_what_was_queued() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (events, writer) = Events::new("node-a", None);
        events.send(Event::starting());
        tokio::join!(writer.run(), async {
            events.flush(Duration::from_mins(1)).await;
            drop(events);
        });
    });
}
