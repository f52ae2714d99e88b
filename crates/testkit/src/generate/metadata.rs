//! The metadata of generated objects, which is most of their size.

use serde_json::{Value, json};

/// All generated objects were created then.
const CREATED: &str = "2026-01-15T09:30:00Z";

/// Metadata of a Service as a Helm-like deployment tool leaves it.
pub(super) fn of_service(namespace: &str, name: &str, number: usize) -> Value {
    json!({
        "annotations": {
            "meta.helm.sh/release-name": name,
            "meta.helm.sh/release-namespace": namespace,
        },
        "creationTimestamp": CREATED,
        "labels": {
            "app.kubernetes.io/instance": name,
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/version": "1.4.2",
            "helm.sh/chart": format!("{name}-1.4.2"),
        },
        "managedFields": [managed_fields("helm", "v1", &service_fields())],
        "name": name,
        "namespace": namespace,
        "uid": uid(1, number),
    })
}

/// Metadata of an EndpointSlice as the controller writes it; `index` distinguishes the slices of a Service.
pub(super) fn of_slice(namespace: &str, service: &str, number: usize, index: usize) -> Value {
    let number_of_slice = number * 10_000 + index;
    json!({
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": CREATED},
        "creationTimestamp": CREATED,
        "generateName": format!("{service}-"),
        "generation": 3,
        "labels": {
            "app.kubernetes.io/instance": service,
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/name": service,
            "app.kubernetes.io/version": "1.4.2",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "helm.sh/chart": format!("{service}-1.4.2"),
            "kubernetes.io/service-name": service,
        },
        "managedFields": [
            managed_fields("kube-controller-manager", "discovery.k8s.io/v1", &slice_fields()),
        ],
        "name": format!("{service}-{}", suffix(number_of_slice)),
        "namespace": namespace,
        "ownerReferences": [{
            "apiVersion": "v1",
            "blockOwnerDeletion": true,
            "controller": true,
            "kind": "Service",
            "name": service,
            "uid": uid(1, number),
        }],
        "uid": uid(2, number_of_slice),
    })
}

/// Five letters and digits as the API server appends them to `generateName`; different for numbers below 27 to the fifth.
pub(super) fn suffix(number: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    const ALL: usize = 27 * 27 * 27 * 27 * 27;
    // Multiplying by a number without the factor 3 permutes the suffixes, so that neighbours differ in all letters.
    let mut rest = (number % ALL).wrapping_mul(8_176_549) % ALL;
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        text.push(char::from(LETTERS[rest % 27]));
        rest /= 27;
    }
    text
}

/// A UID made of the sort of object and its number.
pub(super) fn uid(sort: u32, number: usize) -> String {
    format!("{sort:08x}-7a1c-4e0b-9d3f-{number:012x}")
}

fn managed_fields(manager: &str, api_version: &str, fields: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "manager": manager,
        "operation": "Update",
        "time": CREATED,
    })
}

fn service_fields() -> Value {
    json!({
        "f:metadata": {
            "f:annotations": {
                ".": {},
                "f:meta.helm.sh/release-name": {},
                "f:meta.helm.sh/release-namespace": {},
            },
            "f:labels": {
                ".": {},
                "f:app.kubernetes.io/instance": {},
                "f:app.kubernetes.io/managed-by": {},
                "f:app.kubernetes.io/name": {},
                "f:app.kubernetes.io/version": {},
                "f:helm.sh/chart": {},
            },
        },
        "f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ports": {
                ".": {},
                "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {},
                },
            },
            "f:selector": {},
            "f:sessionAffinity": {},
            "f:type": {},
        },
    })
}

fn slice_fields() -> Value {
    json!({
        "f:addressType": {},
        "f:endpoints": {},
        "f:metadata": {
            "f:annotations": {
                ".": {},
                "f:endpoints.kubernetes.io/last-change-trigger-time": {},
            },
            "f:generateName": {},
            "f:labels": {
                ".": {},
                "f:app.kubernetes.io/instance": {},
                "f:app.kubernetes.io/managed-by": {},
                "f:app.kubernetes.io/name": {},
                "f:app.kubernetes.io/version": {},
                "f:endpointslice.kubernetes.io/managed-by": {},
                "f:helm.sh/chart": {},
                "f:kubernetes.io/service-name": {},
            },
            "f:ownerReferences": {
                ".": {},
                "k:{\"uid\":\"00000001-7a1c-4e0b-9d3f-000000000000\"}": {},
            },
        },
        "f:ports": {},
    })
}
