//! Running the iptables programs: the one place where the kernel is touched.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use kube_proxy_core::{IpFamily, SyncError};

use crate::Variant;
use crate::restore::Batch;

/// What the backend needs of the kernel.
pub(crate) trait Kernel: Send {
    /// Hands over each line of `iptables-save` for one table.
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError>;

    /// Applies a batch without touching anything it does not name.
    fn restore(&self, batch: &Batch) -> Result<(), RestoreError>;

    /// Whether all of these are there.
    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError>;
}

/// Something that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Chain { table: &'static str, chain: &'static str },
    Rule { table: &'static str, chain: &'static str, rule: String },
}

impl Check {
    fn table(&self) -> &'static str {
        match self {
            Self::Chain { table, .. } | Self::Rule { table, .. } => table,
        }
    }
}

/// Why a restore failed. Nothing of the table in question was changed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct RestoreError {
    pub(crate) error: SyncError,
    /// The line that was refused, counted from 1, if that is known.
    pub(crate) line: Option<usize>,
}

impl RestoreError {
    /// Whether chains lead into each other more deeply than the kernel lets them (`ELOOP` and `EMLINK` of `nf_tables`).
    pub(crate) fn is_too_deep(&self) -> bool {
        let text = self.error.to_string();
        text.contains("Too many links") || text.contains("Too many levels")
    }
}

/// The programs of one variant and family.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    variant: Variant,
    /// Such as `ip6tables-legacy`.
    main: String,
    version: Version,
}

/// A version of iptables, such as 1.8.9.
pub(crate) type Version = (u32, u32, u32);

/// How long a program waits for the lock that all iptables-legacy programs share.
const LOCK_SECONDS: &str = "5";

impl Programs {
    /// Finds the programs of a variant: under their full names, or under the plain name if that is this variant.
    pub(crate) fn find(family: IpFamily, variant: Variant) -> Option<Self> {
        let plain = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        [format!("{plain}-{}", variant.name()), plain.to_owned()].into_iter().find_map(|main| {
            let output = Command::new(&main).arg("--version").output().ok()?;
            let (version, of) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
            (of == variant).then_some(Self { variant, main, version })
        })
    }

    /// Such as `ip6tables-legacy`.
    pub(crate) fn name(&self) -> &str {
        &self.main
    }

    /// Such as 1.8.9.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether MASQUERADE knows `--random-fully`: since 1.6.2.
    pub(crate) fn knows_random_fully(&self) -> bool {
        self.version >= (1, 6, 2)
    }

    /// The programs of the other variant, if they are there.
    pub(crate) fn other_variant(&self, family: IpFamily) -> Option<Self> {
        let other = match self.variant {
            Variant::Legacy => Variant::Nft,
            _ => Variant::Legacy,
        };
        Self::find(family, other)
    }

    /// Whether a table does not exist, as far as that can be said without bringing it into being: asking the
    /// legacy programs for a table creates it.
    pub(crate) fn is_unused(&self, table: &str) -> bool {
        if self.variant != Variant::Legacy {
            return false;
        }
        let family = if self.main.starts_with("ip6") { "ip6" } else { "ip" };
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        std::fs::read_to_string(path).map_or(true, |names| names.lines().all(|name| name != table))
    }

    /// Whether `table` works here.
    pub(crate) fn probe(&self, table: &str) -> Result<(), SyncError> {
        self.run(&["-t", table, "-S", "KUBE-PROXY-CANARY"]).map(|_| ())
    }

    fn helper(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.main)
    }

    /// The arguments that make a program wait for the lock; the nft variant needs none.
    fn wait(&self) -> &'static [&'static str] {
        match self.variant {
            Variant::Legacy => &["-w", LOCK_SECONDS],
            _ => &[],
        }
    }

    /// Runs the main program. `false` is its way to say that what was asked for is not there.
    fn run(&self, arguments: &[&str]) -> Result<bool, SyncError> {
        let output = Command::new(&self.main)
            .args(self.wait())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| not_run(&self.main, source))?;
        // 1 means "no such chain or rule" but also "no such table": only the text tells.
        let text = String::from_utf8_lossy(&output.stderr);
        let missing = [
            "No chain/target/match by that name",
            "does not exist",
            "does a matching rule exist",
            "incompatible",
        ];
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1)
                if missing.iter().any(|words| text.contains(words))
                    && !text.contains("Table does not exist") =>
            {
                Ok(false)
            }
            _ => Err(failure(&self.main, output.status, &text)),
        }
    }

    /// The legacy programs copy the whole table for every question, so all questions are asked at once.
    fn holds_all_at_once(&self, checks: &[Check]) -> Result<bool, SyncError> {
        let mut input = String::new();
        for checks in checks.chunk_by(|a, b| a.table() == b.table()) {
            input.extend(["*", checks[0].table(), "\n"]);
            for check in checks {
                match check {
                    Check::Chain { chain, .. } => input.extend(["-S ", *chain, "\n"]),
                    Check::Rule { chain, rule, .. } => {
                        input.extend(["-C ", *chain, " ", rule.as_str(), "\n"]);
                    }
                }
            }
            input.push_str("COMMIT\n");
        }
        let program = self.helper("restore");
        let (status, text) = self.feed(&program, &["--noflush", "--test"], &[&input])?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) if parse_line(&text).is_some() => Ok(false),
            _ => Err(failure(&program, status, &text)),
        }
    }

    /// Runs a program with input. Returns how it ended and what it complained about.
    fn feed(
        &self,
        program: &str,
        arguments: &[&str],
        pieces: &[&str],
    ) -> Result<(ExitStatus, String), SyncError> {
        let run = || -> io::Result<_> {
            let mut child = Command::new(program)
                .args(self.wait())
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut input = child.stdin.take();
            let complaints = std::thread::scope(|scope| {
                // A program that gives up closes its input; what it says then is the error worth telling.
                scope.spawn(move || {
                    if let Some(input) = &mut input {
                        let _ = pieces.iter().try_for_each(|p| input.write_all(p.as_bytes()));
                    }
                });
                read_complaints(&mut child)
            });
            Ok((child.wait()?, complaints))
        };
        run().map_err(|source| not_run(program, source))
    }
}

impl Kernel for Programs {
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        let program = self.helper("save");
        let mut run = || -> io::Result<_> {
            let mut child = Command::new(&program)
                .args(["-t", table])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take();
            let complaints = std::thread::scope(|scope| {
                let complaints = scope.spawn(|| read_complaints(&mut child));
                if let Some(output) = output {
                    each_line(output, each)?;
                }
                io::Result::Ok(complaints.join().unwrap_or_default())
            })?;
            Ok((child.wait()?, complaints))
        };
        let (status, text) = run().map_err(|source| not_run(&program, source))?;
        if status.success() { Ok(()) } else { Err(failure(&program, status, &text)) }
    }

    fn restore(&self, batch: &Batch) -> Result<(), RestoreError> {
        let program = self.helper("restore");
        let (status, text) = self
            .feed(&program, &["--noflush"], &batch.pieces())
            .map_err(|error| RestoreError { error, line: None })?;
        if status.success() {
            return Ok(());
        }
        let line = parse_line(&text);
        let shown = line.and_then(|number| Some((number, batch.line(number)?)));
        let text = match shown {
            Some((number, line)) => format!("{}; line {number} is: {line}", text.trim()),
            None => text,
        };
        Err(RestoreError { error: failure(&program, status, &text), line })
    }

    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError> {
        if self.variant == Variant::Legacy {
            return self.holds_all_at_once(checks);
        }
        for check in checks {
            let there = match check {
                Check::Chain { table, chain } => self.run(&["-t", table, "-S", chain])?,
                Check::Rule { table, chain, rule } => {
                    let words = split_words(rule);
                    let mut arguments = vec!["-t", table, "-C", chain];
                    arguments.extend(words.iter().map(String::as_str));
                    self.run(&arguments)?
                }
            };
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The words of a rule, as a shell would split them: double quotes keep spaces, a backslash keeps the next character.
pub(crate) fn split_words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut quoted = false;
    let mut characters = rule.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_with(String::new);
            }
            '\\' => word.get_or_insert_with(String::new).extend(characters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    words
}

fn each_line(output: impl Read, each: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

/// Reads standard error to its end, keeping the first part: a program may complain about every line.
fn read_complaints(child: &mut Child) -> String {
    const KEPT: u64 = 4096;
    let mut kept = Vec::new();
    if let Some(mut stream) = child.stderr.take() {
        let _ = stream.by_ref().take(KEPT).read_to_end(&mut kept);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The number of the refused line, from any of the ways in which versions and variants say it:
/// `line 7 failed`, `Error occurred at line: 7`, `line 7: RULE_APPEND failed`.
fn parse_line(text: &str) -> Option<usize> {
    text.match_indices("line").find_map(|(at, found)| {
        let rest = text[at + found.len()..].trim_start_matches([':', ' ']);
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse().ok()
    })
}

/// `iptables v1.8.9 (nf_tables)`. Before 1.8.0 there was only the legacy variant and no word in parentheses.
fn parse_version(text: &str) -> Option<(Version, Variant)> {
    let mut words = text.split_whitespace().skip(1);
    let mut numbers =
        words.next()?.strip_prefix('v')?.split('.').map(|number| number.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let version = (number(), number(), number());
    let variant = match words.next() {
        Some("(nf_tables)") => Variant::Nft,
        _ => Variant::Legacy,
    };
    Some((version, variant))
}

fn not_run(program: impl AsRef<OsStr>, source: io::Error) -> SyncError {
    SyncError::Io { what: format!("running {}", program.as_ref().display()), source }
}

fn failure(program: &str, status: ExitStatus, text: &str) -> SyncError {
    let text = text.trim();
    let message = format!("{program}: {status}: {text}");
    // 4 is "resource problem": the lock, or another program's transaction.
    let busy = ["xtables lock", "Resource temporarily unavailable"];
    if status.code() == Some(4) && busy.iter().any(|words| text.contains(words)) {
        SyncError::Busy(message)
    } else {
        SyncError::Refused(message)
    }
}

#[cfg(test)]
mod tests;
