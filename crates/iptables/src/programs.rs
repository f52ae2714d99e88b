//! Running the iptables programs: the one place where the kernel is touched.
//!
//! Other modes that need some iptables rules use [`Programs`] as well.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use kube_proxy_core::{IpFamily, SyncError};

use crate::restore::Batch;
use crate::{Variant, counters, localnet, variant};

mod child;

/// What the backend needs of the kernel.
pub(crate) trait Kernel: Send {
    /// Hands over each line of `iptables-save` for one table.
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError>;

    /// Applies a batch without touching anything it does not name.
    fn restore(&self, batch: &Batch) -> Result<(), RestoreError>;

    /// Whether all of these are there.
    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError>;

    /// Has the kernel route packets to and from loopback addresses.
    fn route_localnet(&self) -> Result<(), SyncError>;

    /// Has it do so no more.
    fn unroute_localnet(&self) -> Result<(), SyncError>;

    /// Sees to it that the objects are there in which rules count packets.
    fn create_counters(&self) -> Result<(), SyncError>;

    /// Deletes those of them that no rule uses.
    fn delete_counters(&self);
}

/// Something that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A chain.
    Chain {
        /// Its table.
        table: &'static str,
        /// Its name.
        chain: &'static str,
    },
    /// A rule.
    Rule {
        /// The table of its chain.
        table: &'static str,
        /// Its chain.
        chain: &'static str,
        /// The rule without its chain, as `iptables-save` prints it.
        rule: String,
    },
}

impl Check {
    /// The table it is about.
    pub fn table(&self) -> &'static str {
        match self {
            Self::Chain { table, .. } | Self::Rule { table, .. } => table,
        }
    }
}

/// Why a restore failed. Nothing of the table in question was changed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RestoreError {
    /// What was tried, and what the program said.
    pub error: SyncError,
    /// The line that was refused, counted from 1, if that is known.
    pub line: Option<usize>,
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
pub struct Programs {
    variant: Variant,
    /// Such as `ip6tables-legacy`.
    main: String,
    version: Version,
    /// How long each may take before it is killed.
    limit: Duration,
}

/// A version of iptables, such as 1.8.9.
pub type Version = (u32, u32, u32);

/// How long a program waits for the lock that all iptables-legacy programs share.
const LOCK_SECONDS: &str = "5";

/// What iptables-nft says of a transaction that the socket's send buffer does not hold (`EMSGSIZE`). It enlarges the buffer as it
/// needs, but beyond `net.core.wmem_default` that takes `CAP_NET_ADMIN` in the initial user namespace.
/// A line number that comes with it only tells where the program was, not what is wrong.
const TOO_LONG: &str = "Message too long";

const TOO_LONG_HINT: &str = "no rule is at fault: the rules of one table do not fit into one message to the kernel, \
    which without CAP_NET_ADMIN in the initial user namespace is limited by the sysctl net.core.wmem_default; \
    raise that, or use iptables-legacy or the nftables mode";

impl Programs {
    /// Finds the programs of a variant: under their full names, or under the plain name if that is this variant.
    pub fn find(family: IpFamily, variant: Variant) -> Option<Self> {
        let plain = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        [format!("{plain}-{}", variant.name()), plain.to_owned()].into_iter().find_map(|main| {
            let mut text = String::new();
            let mut command = Command::new(&main);
            let each = &mut |line: &str| text.extend([line, "\n"]);
            child::run(command.arg("--version"), child::LIMIT, &[], each).ok()?;
            let (version, of) = parse_version(&text)?;
            (of == variant).then_some(Self { variant, main, version, limit: child::LIMIT })
        })
    }

    /// Such as `ip6tables-legacy`.
    pub fn name(&self) -> &str {
        &self.main
    }

    /// Such as 1.8.9.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether MASQUERADE knows `--random-fully`: since 1.6.2.
    pub fn knows_random_fully(&self) -> bool {
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
    pub fn is_unused(&self, table: &str) -> bool {
        if self.variant != Variant::Legacy {
            return false;
        }
        let family = if self.main.starts_with("ip6") { IpFamily::V6 } else { IpFamily::V4 };
        !Self::has_legacy_table(family, table)
    }

    /// Whether the kernel has a table of the legacy variant, as it says without making one.
    pub(crate) fn has_legacy_table(family: IpFamily, table: &str) -> bool {
        let family = if family == IpFamily::V6 { "ip6" } else { "ip" };
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == table))
    }

    /// The variant.
    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    /// Whether `table` works here.
    pub fn probe(&self, table: &str) -> Result<(), SyncError> {
        self.run(&["-t", table, "-S", "KUBE-PROXY-CANARY"]).map(|_| ())
    }

    /// The programs to use for a family: those of the variant asked for, or else those that the node uses.
    ///
    /// # Errors
    /// When they are not installed.
    pub fn choose(family: IpFamily, variant: Variant) -> Result<Self, SyncError> {
        variant::choose(family, variant)
    }

    /// Hands over each line of `iptables-save` for one table.
    ///
    /// # Errors
    /// When the program cannot be run, or fails.
    pub fn each_line(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        let program = self.helper("save");
        let mut command = Command::new(&program);
        command.args(["-t", table]);
        let (status, text) = self.wait_for(&program, &mut command, &[], each)?;
        if status.success() { Ok(()) } else { Err(failure(&program, status, &text)) }
    }

    /// Applies the input of one `iptables-restore --noflush`, given in pieces.
    ///
    /// # Errors
    /// When the program cannot be run, or refuses a line: then nothing of that table was changed.
    pub fn restore_text(&self, pieces: &[&str]) -> Result<(), RestoreError> {
        let program = self.helper("restore");
        let (status, text) = self
            .feed(&program, &["--noflush"], pieces)
            .map_err(|error| RestoreError { error, line: None })?;
        if status.success() {
            return Ok(());
        }
        if text.contains(TOO_LONG) {
            let text = format!("{TOO_LONG}: {TOO_LONG_HINT}");
            return Err(RestoreError { error: failure(&program, status, &text), line: None });
        }
        let line = parse_line(&text);
        let shown = line.and_then(|number| {
            let line = pieces.concat().lines().nth(number.checked_sub(1)?)?.to_owned();
            Some((number, line))
        });
        let text = match shown {
            Some((number, line)) => format!("{}; line {number} is: {line}", text.trim()),
            None => text,
        };
        Err(RestoreError { error: failure(&program, status, &text), line })
    }

    /// Whether all of these are there.
    ///
    /// # Errors
    /// When the programs cannot be run.
    pub fn hold(&self, checks: &[Check]) -> Result<bool, SyncError> {
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
        let (status, text) = self.feed(&self.main, arguments, &[])?;
        // 1 means "no such chain or rule" but also "no such table": only the text tells.
        let missing = [
            "No chain/target/match by that name",
            "does not exist",
            "does a matching rule exist",
            "incompatible",
        ];
        match status.code() {
            Some(0) => Ok(true),
            Some(1)
                if missing.iter().any(|words| text.contains(words))
                    && !text.contains("Table does not exist") =>
            {
                Ok(false)
            }
            _ => Err(failure(&self.main, status, &text)),
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
        let mut command = Command::new(program);
        command.args(self.wait()).args(arguments);
        self.wait_for(program, &mut command, pieces, &mut |_| ())
    }

    fn wait_for(
        &self,
        program: &str,
        command: &mut Command,
        pieces: &[&str],
        each: &mut dyn FnMut(&str),
    ) -> Result<(ExitStatus, String), SyncError> {
        let finished = child::run(command, self.limit, pieces, each)
            .map_err(|source| not_run(program, source))?;
        Ok((finished.status, finished.complaints))
    }
}

impl Kernel for Programs {
    fn save(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.each_line(table, each)
    }

    fn restore(&self, batch: &Batch) -> Result<(), RestoreError> {
        self.restore_text(&batch.pieces())
    }

    fn holds(&self, checks: &[Check]) -> Result<bool, SyncError> {
        self.hold(checks)
    }

    fn route_localnet(&self) -> Result<(), SyncError> {
        localnet::enable()
    }

    fn unroute_localnet(&self) -> Result<(), SyncError> {
        localnet::disable()
    }

    fn create_counters(&self) -> Result<(), SyncError> {
        counters::create()
    }

    fn delete_counters(&self) {
        counters::delete_unused();
    }
}

/// The words of a rule, as a shell would split them: double quotes keep spaces, a backslash keeps the next character.
pub fn split_words(rule: &str) -> Vec<String> {
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
