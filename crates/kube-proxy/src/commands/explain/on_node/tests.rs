use serde_json::json;

use super::*;

fn shown(value: serde_json::Value, all: bool) -> Vec<String> {
    lines(&serde_json::from_value(value).unwrap(), all)
}

fn objects(states: &[&str]) -> serde_json::Value {
    let objects = states.iter().enumerate().map(
        |(number, state)| json!({"kind": "element", "name": format!("e{number}"), "state": state}),
    );
    let wrong = states.iter().filter(|state| **state == "missing").count();
    json!({"objects": objects.collect::<Vec<_>>(), "total": states.len(), "wrong": wrong})
}

#[test]
fn what_is_right_takes_one_line() {
    let three = objects(&["asWanted"; 3]);
    assert_eq!(shown(three.clone(), false), ["all that serves it is as it should be"]);
    assert_eq!(shown(three, true), ["element e0", "element e1", "element e2"]);
    assert_eq!(shown(objects(&[]), false), ["nothing is needed for it"]);
}

#[test]
fn what_is_wrong_is_named_first() {
    let some = objects(&["missing", "missing", "asWanted"]);
    let rest = "as it should be: 1 object that serves it";
    assert_eq!(shown(some.clone(), false), ["missing element e0", "missing element e1", rest]);
    assert_eq!(shown(some, true), ["missing element e0", "missing element e1", "element e2"]);
    let mut many = vec!["missing"; 9];
    many.push("asWanted");
    let lines = shown(objects(&many), false);
    assert_eq!(lines.len(), 8, "{lines:?}");
    assert_eq!(lines[6], "not as they should be: 3 more objects");
    let unknown = shown(objects(&["unknown", "asWanted"]), false);
    assert_eq!(unknown, ["not known: element e0: ", rest]);
}

#[test]
fn failures_and_repairs_are_said() {
    let failed = json!({"objects": [], "total": 0, "wrong": 0, "failure": "no table"});
    assert_eq!(shown(failed, false), ["not known: no table"]);
    let mut repaired = objects(&["asWanted"]);
    let at = Timestamp::now().to_string();
    let difference = json!({"kind": "element", "name": "e0", "deviation": "missing"});
    repaired["repaired"] = json!([{"at": at, "difference": difference}]);
    let lines = shown(repaired, false);
    assert!(
        lines[1].starts_with("repaired ") && lines[1].ends_with("s ago: missing element e0"),
        "{lines:?}"
    );
}
