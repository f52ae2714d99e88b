use super::*;

const TIMEOUT: Duration = Duration::from_secs(100);

fn key() -> ServerKey {
    ServerKey::Frontend { protocol: 6, address: "10.96.0.1:80".parse().unwrap() }
}

fn to(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

#[test]
fn looks_come_less_and_less_often_and_start_anew_with_each_destination() {
    let start = Instant::now();
    let mut drains = Drains::default();
    assert_eq!(drains.due(), None);
    drains.begin(key(), to(1), start, TIMEOUT);
    let mut now = start;
    let mut waits = Vec::new();
    for _ in 0..7 {
        let due = drains.due().unwrap();
        waits.push((due - now).as_secs());
        now = due;
        drains.looked(now);
    }
    assert_eq!(waits, [1, 1, 2, 4, 8, 15, 15]);
    drains.begin(key(), to(2), now, TIMEOUT);
    assert_eq!(drains.due(), Some(now + FIRST));
}

#[test]
fn the_deadline_of_the_first_counts_and_none_is_for_ever() {
    let start = Instant::now();
    let mut drains = Drains::default();
    drains.begin(key(), to(1), start, Duration::from_millis(300));
    assert_eq!(drains.due(), Some(start + Duration::from_millis(300)));
    drains.begin(key(), to(1), start + FIRST, TIMEOUT);
    assert_eq!(drains.due(), Some(start + Duration::from_millis(300)), "begun already");
    let mut forever = Drains::default();
    forever.begin(key(), to(1), start, Duration::ZERO);
    assert_eq!(forever.waiting.values().next(), Some(&None));
}

#[test]
fn nothing_is_due_when_all_have_ended() {
    let start = Instant::now();
    let mut drains = Drains::default();
    drains.begin(key(), to(1), start, TIMEOUT);
    drains.begin(key(), to(2), start, TIMEOUT);
    drains.end(key(), to(1));
    assert!(drains.due().is_some() && !drains.contains(key(), to(1)));
    drains.end_server(key());
    assert_eq!(drains.due(), None);
}
