//! Running the iptables programs: the one place where they touch the kernel.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube_proxy_core::{IpFamily, SyncError};

use crate::variant::Variant;

mod child;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod held;
mod listing;
mod look_up;
mod parse;
mod trial;
mod unlisted;
mod version;

use held::Held;
use listing::{End, Listing};
use look_up::{INCOMPATIBLE, NO_RULE, is_missing};
pub use parse::Version;
use parse::parse_line;
pub use unlisted::has_chain;
use version::{plain_name, version_of};

/// Why a restore failed. Nothing of the table in question was changed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RestoreError {
    /// What was tried, and what the program said.
    pub error: SyncError,
    /// The line that was refused, counted from 1, if that is known.
    pub line: Option<usize>,
    /// Chains lead into each other more deeply than the kernel allows (`ELOOP` and `EMLINK` of `nf_tables`).
    pub too_deep: bool,
}

impl RestoreError {
    /// Reads what a program wrote. It has no other way to report, and this is the one place that looks at the words.
    fn new(error: SyncError, text: &str) -> Self {
        let too_deep = ["Too many links", "Too many levels"].iter().any(|of| text.contains(of));
        Self { error, line: parse_line(text), too_deep }
    }
}

/// The programs of one variant and family.
#[derive(Clone, Debug)]
pub struct Programs {
    variant: Variant,
    family: IpFamily,
    /// Such as `ip6tables-legacy`.
    main: String,
    version: Version,
    /// How long each may take before it is killed.
    limit: Duration,
    /// What was found there last.
    held: Arc<Mutex<Option<Held>>>,
}

/// A chain that programs are asked for where any will do.
const CANARY: &str = "KUBE-PROXY-CANARY";

/// How long a program waits for the lock that all iptables-legacy programs share.
const LOCK_SECONDS: &str = "5";

/// What iptables-nft says of a transaction that the socket's send buffer does not hold (`EMSGSIZE`). It enlarges the buffer as it
/// needs, but beyond `net.core.wmem_default` that takes `CAP_NET_ADMIN` in the initial user namespace.
/// A line number that comes with it only shows where the program was, not what is wrong.
const TOO_LONG: &str = "Message too long";

const TOO_LONG_HINT: &str = "no rule is at fault: the rules of one table do not fit into one message to the kernel, \
    which without CAP_NET_ADMIN in the initial user namespace is limited by the sysctl net.core.wmem_default; \
    raise that, or use iptables-legacy or the nftables mode";

impl Programs {
    /// Finds the programs of a variant: under their full names, or under the plain name if that is this variant.
    pub fn find(family: IpFamily, variant: Variant) -> Option<Self> {
        Self::find_or_say(family, variant).ok()
    }

    /// The same.
    ///
    /// # Errors
    /// If there are none: what became of each that was tried.
    pub fn find_or_say(family: IpFamily, variant: Variant) -> Result<Self, String> {
        let plain = plain_name(family);
        let mut reasons = Vec::new();
        for main in [format!("{plain}-{}", variant.name()), plain.to_owned()] {
            match version_of(&main) {
                Ok((version, of)) if of == variant => {
                    let (limit, held) = (child::LIMIT, Arc::default());
                    return Ok(Self { variant, family, main, version, limit, held });
                }
                Ok((_, other)) => reasons.push(format!("{main} is {}", other.long_name())),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// The variant of the program with the plain name, if there is one.
    pub(crate) fn plain_variant(family: IpFamily) -> Option<Variant> {
        version_of(plain_name(family)).ok().map(|(_, variant)| variant)
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

    /// Whether a table does not exist, or has no chain and so no rule. The kernel says so: asking the legacy programs for a table
    /// would bring it into being.
    pub fn is_unused(&self, table: &str) -> bool {
        !self.may_have_chain(table, |_| true)
    }

    /// Whether a table may have a chain like that, as far as the kernel says without any program: of the legacy variant each table
    /// may that there is. What cannot be read may too.
    pub fn may_have_chain(&self, table: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
        match self.variant {
            Variant::Legacy => Self::has_legacy_table(self.family, table),
            _ => unlisted::may_have_chain(self.family, table, is_wanted),
        }
    }

    /// Whether the kernel has a table of the legacy variant, as it says without making one.
    pub fn has_legacy_table(family: IpFamily, table: &str) -> bool {
        let family = if family == IpFamily::V6 { "ip6" } else { "ip" };
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == table))
    }

    /// The variant.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Tries whether `table` works here.
    ///
    /// # Errors
    /// What the program said.
    pub fn probe(&self, table: &str) -> Result<(), SyncError> {
        self.run(&["-t", table, "-S", CANARY]).map(|_| ())
    }

    /// Whether rules can be written here: the program answers, and the kernel takes what it would write.
    pub(crate) fn work(&self) -> Result<(), SyncError> {
        self.probe("nat")?;
        if self.variant == Variant::Nft { trial::table(self.family) } else { Ok(()) }
    }

    /// Tries whether rules can be written here.
    ///
    /// # Errors
    /// [`SyncError::Unsupported`] when not. A lock that another program holds says nothing about that: the first sync waits for it.
    pub fn try_out(&self) -> Result<(), SyncError> {
        match self.work() {
            Err(SyncError::Busy(reason)) => {
                tracing::info!(family = %self.family, "cannot try iptables now, starting all the same: {reason}");
                Ok(())
            }
            Err(error) => Err(SyncError::Unsupported(format!(
                "{} cannot use the nat table of {}: {error}",
                self.main, self.family
            ))),
            Ok(()) => Ok(()),
        }
    }

    /// Hands over each line of `iptables-save` for one table.
    ///
    /// # Errors
    /// When the program cannot be run, or fails.
    pub fn each_line(&self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        let program = self.helper("save");
        let mut command = Command::new(&program);
        command.args(["-t", table]);
        let mut listing = Listing::of(table);
        let take = &mut |line: &str| listing.take(line, each);
        let (status, text) = self.wait_for(&program, &mut command, &[], take)?;
        if !status.success() {
            return Err(failure(&format!("{program} -t {table}"), status, &text));
        }
        match listing.end() {
            End::Whole => Ok(()),
            End::Nothing(reason) if self.variant == Variant::Nft => {
                tracing::debug!(%table, "{program}: {reason}; reading over netlink");
                unlisted::each_line(self, table, each)
            }
            End::Nothing(reason) => Err(SyncError::Refused(format!(
                "{program} -t {table} listed nothing: {reason} {}",
                text.trim()
            ))),
            End::Part => Err(SyncError::Refused(format!(
                "{program} -t {table} ended before the end of the table {}",
                text.trim()
            ))),
        }
    }

    /// Whether a table has a chain like that; not if it cannot be read.
    pub fn has_chain(&self, table: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
        if self.variant == Variant::Nft {
            // `iptables-nft-save` of one table takes as long as all tables are large.
            return has_chain(self.family, table, is_wanted);
        }
        // To list a table that is not there would bring it into being.
        if !Self::has_legacy_table(self.family, table) {
            return false;
        }
        let mut found = false;
        let read = self.each_line(table, &mut |line| {
            let chain = line.strip_prefix(':').and_then(|rest| rest.split(' ').next());
            found |= chain.is_some_and(&is_wanted);
        });
        found && read.is_ok()
    }

    /// How many rules a table has. What cannot be read has none.
    pub(crate) fn count_rules(&self, table: &str) -> usize {
        if self.variant == Variant::Nft {
            return unlisted::count_rules(self.family, table);
        }
        let mut rules = 0;
        let read = self.each_line(table, &mut |line| rules += usize::from(line.starts_with("-A ")));
        if read.is_ok() { rules } else { 0 }
    }

    /// Hands over each line of `iptables -S` for one chain.
    fn list_chain(
        &self,
        table: &str,
        chain: &str,
        each: &mut dyn FnMut(&str),
    ) -> Result<ExitStatus, SyncError> {
        let mut command = Command::new(&self.main);
        command.args(self.wait()).args(["-t", table, "-S", chain]);
        self.wait_for(&self.main, &mut command, &[], each).map(|(status, _)| status)
    }

    /// Applies the input of one `iptables-restore --noflush`, given in pieces.
    ///
    /// # Errors
    /// When the program cannot be run, or refuses a line: then nothing of that table was changed.
    pub fn restore_text(&self, pieces: &[&str]) -> Result<(), RestoreError> {
        let program = self.helper("restore");
        let (status, text) = self
            .feed(&program, &["--noflush"], pieces)
            .map_err(|error| RestoreError { error, line: None, too_deep: false })?;
        if status.success() {
            return Ok(());
        }
        if text.contains(TOO_LONG) {
            let text = format!("{TOO_LONG}: {TOO_LONG_HINT}");
            let error = failure(&program, status, &text);
            return Err(RestoreError { error, line: None, too_deep: false });
        }
        let line = parse_line(&text);
        let shown = line.and_then(|number| line_of(&pieces.concat(), number));
        let long = match shown {
            Some(shown) => format!("{}; {shown}", text.trim()),
            None => text.clone(),
        };
        Err(RestoreError::new(failure(&program, status, &long), &text))
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
        // 1 means "no such chain or rule" but also "no such table", and 2 that the chain is not there which the rule leads to: only the text
        // shows which.
        let is_incompatible = || status.code() == Some(1) && text.contains(INCOMPATIBLE);
        match status.code() {
            Some(0) => Ok(true),
            _ if is_missing(status, &text, &NO_RULE) || is_incompatible() => Ok(false),
            _ => Err(failure(&self.main, status, &text)),
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

/// A line of the input, counted from 1, in words.
fn line_of(input: &str, number: usize) -> Option<String> {
    let line = input.lines().nth(number.checked_sub(1)?)?;
    let table = input.lines().take(number).filter_map(|line| line.strip_prefix('*')).last()?;
    Some(format!("line {number}, of table {table}, is: {line}"))
}

fn not_run(program: impl AsRef<OsStr>, source: io::Error) -> SyncError {
    SyncError::Io { what: format!("running {}", program.as_ref().display()), source }
}

/// What programs write about a table that the kernel does not have.
const NO_TABLE: &str = "Table does not exist";

/// The failure of a program, whose text and status are all there is to tell one kind from another.
fn failure(program: &str, status: ExitStatus, text: &str) -> SyncError {
    // Programs say it in several lines, a log has one.
    let text: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = text.join(" ");
    let message = format!("{program}: {status}: {text}");
    // 4 is "resource problem": the lock, or another program's transaction.
    let busy = ["xtables lock", "Resource temporarily unavailable"];
    if status.code() == Some(4) && busy.iter().any(|words| text.contains(words)) {
        SyncError::Busy(message)
    } else if text.contains(NO_TABLE) {
        SyncError::NotFound(message)
    } else {
        SyncError::Refused(message)
    }
}

#[cfg(test)]
mod tests;
