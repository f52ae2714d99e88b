//! Running a program to its end, or for as long as anybody should wait for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How long a program may take. The slowest seen, a full sync of 10,000 services over iptables-nft, takes seconds;
/// a slow machine under load may take many times that, so only what surely never ends is killed.
pub(super) const LIMIT: Duration = Duration::from_mins(5);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    /// The first part of what it wrote to standard error.
    pub(super) complaints: String,
}

/// Runs a program, feeds it the pieces and hands over each line that it prints.
///
/// After `limit` it is killed, with everything that it started: the programs may be scripts around the real ones.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] when it was killed; else what starting it or reading from it failed with.
pub(super) fn run(
    command: &mut Command,
    limit: Duration,
    pieces: &[&str],
    each: &mut dyn FnMut(&str),
) -> io::Result<Finished> {
    let stdin = if pieces.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command
        // What programs say is read: it must not depend on the language that the node is set to.
        .env("LC_ALL", "C")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let group = Pid::from_raw(child.id().cast_signed());
    let (killed, read, complaints) = thread::scope(|scope| {
        let (done, ended) = mpsc::channel();
        let watchdog = scope.spawn(move || kill_when_late(group, &ended, limit));
        let writer = scope.spawn(move || {
            // A program that gives up closes its input; what it says then is the error worth telling.
            if let Some(mut input) = input {
                let _ = pieces.iter().try_for_each(|p| input.write_all(p.as_bytes()));
            }
        });
        let complaints = scope.spawn(move || read_complaints(errors));
        let read = output.map_or(Ok(()), |output| each_line(output, each));
        let complaints = complaints.join().unwrap_or_default();
        let _ = writer.join();
        // It may close all its pipes and stay. It is not reaped here: until the watchdog is gone its id must stay its own.
        wait_without_reaping(&child);
        drop::<mpsc::Sender<()>>(done);
        (watchdog.join().unwrap_or(false), read, complaints)
    });
    let status = child.wait()?;
    if killed {
        let text = format!("killed because it had not ended after {limit:?}");
        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
    }
    read?;
    Ok(Finished { status, complaints })
}

/// Waits for the end of the run, for so long. Returns whether it had to be brought about.
fn kill_when_late(group: Pid, ended: &Receiver<()>, limit: Duration) -> bool {
    let late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
    if late {
        // It fails only if nothing of the group is left.
        let _ = killpg(group, Signal::SIGKILL);
    }
    late
}

fn wait_without_reaping(child: &Child) {
    let id = Pid::from_raw(child.id().cast_signed());
    while waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
}

/// The longest line that is read. Rules are far shorter; what is not made of lines must not fill the memory.
const LONGEST_LINE: u64 = 1 << 20;

fn each_line(output: impl Read, each: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, output);
    let mut line = Vec::new();
    loop {
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
            let text = format!("it printed a line of more than {LONGEST_LINE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        // Spaces at the end may belong to a comment that the next line continues.
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// Reads standard error to its end, keeping the first part: a program may complain about every line.
fn read_complaints(stream: Option<ChildStderr>) -> String {
    const KEPT: u64 = 4096;
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.by_ref().take(KEPT).read_to_end(&mut kept);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    String::from_utf8_lossy(&kept).into_owned()
}
