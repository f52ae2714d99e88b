use std::io;
use std::sync::{Arc, Mutex};

use kube_proxy_core::ObjectName;

use super::*;
use crate::problem::Findings;

/// Runs something and gives back the lines it logged.
fn logged(run: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn subject(kind: Kind, name: &str) -> Subject {
    Subject::object(kind, ObjectName::new("ns", name))
}

fn bad(subject: &Subject, value: &str) -> Vec<Problem> {
    let mut findings = Findings::new(subject.clone());
    findings.add("spec.x", value, "no good");
    findings.into_problems()
}

#[test]
fn a_problem_is_logged_when_it_appears_changes_or_comes_back() {
    let problems = Problems::new();
    let web = subject(Kind::Service, "web");
    let first = logged(|| problems.set(&web, bad(&web, "1")));
    assert_eq!(first.len(), 1);
    assert!(first[0].contains(r#"Service ns/web: spec.x: "1": no good"#), "{}", first[0]);
    assert!(logged(|| problems.set(&web, bad(&web, "1"))).is_empty());
    assert_eq!(logged(|| problems.set(&web, bad(&web, "2"))).len(), 1);
    let repaired = logged(|| problems.set(&web, Vec::new()));
    assert!(repaired[0].contains("no problem any more"), "{repaired:?}");
    assert!(problems.current().is_empty());
    assert_eq!(logged(|| problems.set(&web, bad(&web, "2"))).len(), 1);
    let counts = problems.counts()["Service"];
    assert_eq!(counts, InvalidCount { current: 1, total: 3 });
}

#[test]
fn a_list_forgets_the_problems_of_what_is_gone() {
    let problems = Problems::new();
    let [web, db] = ["web", "db"].map(|name| subject(Kind::Service, name));
    let slice = subject(Kind::EndpointSlice, "web-1");
    for subject in [&web, &db, &slice] {
        problems.set(subject, bad(subject, "1"));
    }
    problems.list_started(Kind::Service);
    assert_eq!(problems.current().len(), 3, "nothing is gone before the list is done");
    let relisted = logged(|| problems.set(&web, bad(&web, "1")));
    assert!(relisted.is_empty(), "{relisted:?}");
    problems.list_done(Kind::Service);
    let mut left: Vec<_> = problems.current().into_iter().map(|p| p.subject).collect();
    left.sort();
    assert_eq!(left, [slice, web]);
}

#[test]
fn the_register_is_bounded_and_says_so_once() {
    let problems = Problems::new();
    let lines = logged(|| {
        for i in 0..MAX_SUBJECTS + 50 {
            let one = subject(Kind::EndpointSlice, &i.to_string());
            problems.set(&one, bad(&one, "1"));
        }
    });
    assert_eq!(lines.len(), MAX_SUBJECTS + 1);
    assert_eq!(problems.current().len(), MAX_SUBJECTS);
    let counts = problems.counts()["EndpointSlice"];
    assert_eq!(counts.total, MAX_SUBJECTS as u64 + 50);
}

#[test]
fn one_object_has_a_bounded_number_of_problems() {
    let one = subject(Kind::EndpointSlice, "big");
    let mut findings = Findings::new(one);
    for i in 0..100_000 {
        findings.add(format_args!("endpoints[{i}]"), &"x".repeat(1000), "bad");
    }
    let found = findings.into_problems();
    assert_eq!(found.len(), 17);
    assert!(found[16].reason.starts_with("99984 more"), "{}", found[16]);
    assert!(found[0].value.len() < 100);
}
