//! How bytes of TCP connections are moved.

/// How bytes move from one socket to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CopyStrategy {
    /// Read and write only.
    Copy,
    /// Splice where much is moved.
    #[default]
    Splice,
}
