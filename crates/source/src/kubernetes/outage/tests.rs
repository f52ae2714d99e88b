use super::*;

const DELAY: Duration = Duration::from_secs(1);

#[test]
fn one_line_per_cause_whatever_fails_and_how_often() {
    let outages = Outages::new("http://192.0.2.1:6443/".to_owned());
    assert!(outages.failed(Kind::Service, "connection refused", true, DELAY));
    assert!(!outages.failed(Kind::Service, "connection refused", true, DELAY));
    assert!(!outages.failed(Kind::EndpointSlice, "connection refused", true, DELAY));
    assert!(outages.failed(Kind::EndpointSlice, "too old: 12 (34)", true, DELAY));
    assert!(!outages.failed(Kind::EndpointSlice, "too old: 56 (78)", true, DELAY));
    assert!(!outages.recovered(Kind::Service), "slices still fail");
    assert!(outages.recovered(Kind::EndpointSlice));
    assert!(!outages.recovered(Kind::EndpointSlice));
    assert!(
        !outages.failed(Kind::Service, "connection refused", true, DELAY),
        "flapping is no news"
    );
}

#[test]
fn causes_are_bounded() {
    let outages = Outages::new(String::new());
    for i in 0..1000 {
        outages.failed(Kind::Service, &"x".repeat(i), false, DELAY);
    }
    assert!(outages.lock().logged.len() <= MAX_CAUSES);
}
