//! What the commands have in common that also answer without a running proxy.

use super::offline::Offline;
use super::output::Output;
use super::server::Server;

/// How an answer is printed, and who gives it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Answering {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) server: Server,
    #[command(flatten)]
    pub(super) offline: Offline,
}
