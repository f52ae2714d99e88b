use std::io::Write as _;

use super::*;

fn step(name: &'static str, run: Run) -> Step {
    Step { name, what: "", needs: &[], run }
}

#[test]
fn a_step_beside_others_is_not_waited_for_before_its_turn() {
    let fails = |mut log: &File| {
        writeln!(log, "seen")?;
        Err(anyhow!("no"))
    };
    let never = || panic!("is run in its turn");
    let steps = [
        step("a", Run::InTurn(never)),
        step("b", Run::Beside(fails)),
        step("c", Run::Beside(|_| Ok(()))),
    ];
    let mut beside = Beside::default();
    beside.start(steps.iter()).unwrap();
    assert_eq!(beside.0.len(), 2);
    beside.finish("c").0.unwrap();
    assert_eq!(beside.finish("b").0.unwrap_err().to_string(), "no");
    assert!(beside.finish("b").0.unwrap_err().to_string().contains("not started"));
}

#[test]
fn its_output_is_kept() {
    let mut beside = Beside::default();
    let writes = |mut log: &File| Ok(writeln!(log, "seen")?);
    beside.start([step("a", Run::Beside(writes))].iter()).unwrap();
    let mut log = beside.0[0].log.try_clone().unwrap();
    beside.finish("a").0.unwrap();
    log.rewind().unwrap();
    assert_eq!(io::read_to_string(log).unwrap(), "seen\n");
}
