//! Refusals in place of the kernel's, for tests: a kernel does not refuse on demand.

use std::fmt;

use kube_proxy_netlink::Error;
use kube_proxy_netlink::nf_tables::Transaction;

use super::NftablesBackend;

type Judge = Box<dyn FnMut(&Transaction) -> Result<(), Error> + Send>;

/// Sees each transaction before the kernel does. Lets all pass unless a test says otherwise.
#[derive(Default)]
pub(super) struct Gate(Option<Judge>);

impl Gate {
    pub(super) fn pass(&mut self, transaction: &Transaction) -> Result<(), Error> {
        self.0.as_mut().map_or(Ok(()), |judge| judge(transaction))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Gate(judged)" } else { "Gate" })
    }
}

impl NftablesBackend {
    /// Has `judge` refuse transactions before the kernel sees them, as tests do.
    #[doc(hidden)]
    pub fn judge_transactions(
        &mut self,
        judge: impl FnMut(&Transaction) -> Result<(), Error> + Send + 'static,
    ) {
        self.gate = Gate(Some(Box::new(judge)));
    }
}
