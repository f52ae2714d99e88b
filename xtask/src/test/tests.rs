//! The order of steps, and what they wait for.

use std::thread;

use super::*;
use crate::test::jobs::{Job, Length};
use crate::test::steps::MakeJobs;

fn step(name: &'static str, needs: &'static [Needs], run: Run) -> Step {
    Step { name, what: "an example", needs, run }
}

const SLOW: MakeJobs = |_| {
    Ok(vec![Job::new("slow", Length::Short, |_| {
        thread::sleep(Duration::from_millis(50));
        Ok(())
    })])
};
const FAILING: MakeJobs = |_| bail!("an example of a failure");

fn names(steps: &[Step]) -> Vec<(&'static str, bool)> {
    let endings = run_steps(steps);
    endings.iter().map(|(name, ending)| (*name, matches!(ending, Ending::Passed(_)))).collect()
}

#[test]
fn what_runs_aside_ends_before_the_build() {
    let steps = [
        step(steps::HOST, &[], Run::Aside(SLOW)),
        step("fmt", &[], Run::Alone(|| Ok(()))),
        step(steps::BUILD, &[], Run::Alone(|| Ok(()))),
    ];
    assert_eq!(names(&steps), [("fmt", true), (steps::HOST, true), (steps::BUILD, true)]);
}

#[test]
fn what_needs_the_host_waits_for_it_and_is_skipped_if_it_lacks_something() {
    let steps = |host| {
        [
            step(steps::HOST, &[], Run::Aside(host)),
            step("test", &[Needs::Host], Run::Jobs(SLOW)),
            step("doc", &[], Run::Jobs(SLOW)),
        ]
    };
    assert_eq!(names(&steps(SLOW)), [(steps::HOST, true), ("test", true), ("doc", true)]);
    let endings = names(&steps(FAILING));
    assert_eq!(endings, [(steps::HOST, false), ("test", false), ("doc", true)]);
}

#[test]
fn the_end_waits_for_what_runs_aside() {
    assert_eq!(names(&[step(steps::HOST, &[], Run::Aside(SLOW))]), [(steps::HOST, true)]);
}

#[test]
fn what_runs_aside_needs_nothing() {
    let asides = steps::all().into_iter().filter(|step| matches!(step.run, Run::Aside(_)));
    for step in asides {
        assert!(step.needs.is_empty(), "{}", step.name);
    }
}
