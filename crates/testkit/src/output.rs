//! Printing for people, in programs that show or measure something.

use std::io::{self, Write as _};

/// Prints a line on standard output. A reader that went away is no error.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::print_line(format_args!($($argument)*)) };
}

/// Prints one line; see `say!`.
pub fn print_line(line: std::fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    // The reader may have seen enough.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Prints an error with its causes on standard error.
pub fn complain(error: &anyhow::Error) {
    // Nothing is left to do when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {error:#}");
}
