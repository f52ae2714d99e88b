//! How many packets were refused at node ports on loopback addresses: what the kernel counts at the elements that refuse them.

use kube_proxy_core::{Frontend, IpFamily, Protocol, SyncError};
use kube_proxy_netlink::nf_tables::NfTables;
use rustc_hash::FxHashMap;

use crate::config::netlink_family;
use crate::element::SetId;
use crate::error::sync_error;
use crate::key::{Key, KeyKind, Keyed as _};
use crate::layout::{TABLE, set_name};

/// Packets refused in one family since the first element of its table was written. They never fall.
#[derive(Clone, Debug, Default)]
pub struct RefusedOnLoopback {
    /// What each node port's counter showed last.
    shown: FxHashMap<(Protocol, u16), u64>,
    total: FxHashMap<Protocol, u64>,
}

impl RefusedOnLoopback {
    /// Packets of a protocol.
    pub fn packets(&self, protocol: Protocol) -> u64 {
        self.total.get(&protocol).copied().unwrap_or_default()
    }

    /// Reads the counters in the network namespace of this thread. Without a table there is nothing to read.
    ///
    /// # Errors
    /// What the kernel would not tell.
    pub fn read(&mut self, family: IpFamily) -> Result<(), SyncError> {
        let error = |error: kube_proxy_netlink::Error| sync_error(&error);
        let mut netlink = NfTables::open(netlink_family(family)).map_err(error)?;
        let mut shown = FxHashMap::default();
        // An element may come twice when others change the ruleset; one that is missing is there next time.
        let read = netlink.elements(TABLE, set_name(SetId::LoopbackNodeports), |element| {
            let key = Key::read(element.key, false);
            let frontend =
                key.and_then(|key| Frontend::read(KeyKind::NodePort, key.as_bytes(), family));
            if let Some(Frontend::NodePort(protocol, port)) = frontend {
                shown.insert((protocol, port), element.counter.unwrap_or_default().packets);
            }
        });
        match read {
            Err(error) if error.is_not_found() => {}
            result => _ = result.map_err(error)?,
        }
        self.add_up(shown);
        Ok(())
    }

    fn add_up(&mut self, shown: FxHashMap<(Protocol, u16), u64>) {
        for (node_port, count) in &shown {
            let before = self.shown.get(node_port).copied().unwrap_or_default();
            // One that fell was written again, and counts from zero.
            let rise = count.checked_sub(before).unwrap_or(*count);
            *self.total.entry(node_port.0).or_default() += rise;
        }
        self.shown = shown;
    }
}

#[cfg(test)]
mod tests;
