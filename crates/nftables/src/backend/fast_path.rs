//! The flowtable and the interfaces that it has: all that are up, but for loopback.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube_proxy_core::{CheckWaker, ServiceEntry};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::route::{Link, Route};

use super::{NftablesBackend, Synced};
use crate::Config;
use crate::chain::Pick;
use crate::error::too_long;
use crate::fast_path::Wish;
use crate::layout::{FLOWTABLE, TABLE};
use crate::links::LinkWatch;
use crate::parts::Parts;
use crate::state::State;

/// What it takes to let the flowtable follow the interfaces.
#[derive(Debug)]
pub(super) struct FastPath {
    route: Route,
    /// Reports when to look at the interfaces; without it they are looked at in every check.
    watch: Option<LinkWatch>,
    /// Interfaces that the kernel refused, which was said.
    refused: BTreeSet<String>,
}

impl FastPath {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { route: Route::open()?, watch: None, refused: BTreeSet::new() })
    }

    pub(super) fn set_waker(&mut self, config: &Config, waker: CheckWaker) {
        match LinkWatch::start(config.family, waker) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!("new interfaces join the fast path only every sync period: {error}");
            }
        }
    }

    /// The interfaces that belong into the flowtable.
    fn wanted(&mut self) -> Result<BTreeSet<String>, Error> {
        let (links, _) = self.route.links()?;
        let wanted = links.into_iter().filter(|link| link.up && !link.loopback);
        let wanted: BTreeSet<_> = wanted.map(|Link { name, .. }| name).collect();
        // One that comes again gets another chance.
        self.refused.retain(|name| wanted.contains(name));
        Ok(wanted)
    }
}

impl NftablesBackend {
    /// When the first of these service ports asks for the fast path, finds out whether the kernel has one. If not, the log says so once.
    /// Whether that took a transaction.
    ///
    /// Opens its sockets in the network namespace of this thread.
    pub(super) fn look_for_fast_path<'a>(
        &mut self,
        services: impl IntoIterator<Item = &'a Arc<ServiceEntry>>,
    ) -> bool {
        let asks = |entry: &&Arc<ServiceEntry>| Wish::of(&entry.port) == Some(Wish::In);
        if self.fast_path.is_some()
            || !self.config.fast_path_choice
            || !services.into_iter().any(|entry| asks(&entry))
        {
            return false;
        }
        match self.start_fast_path() {
            Ok(fast_path) => {
                self.fast_path = Some(fast_path);
                return true;
            }
            Err(error) if error.refusals().next().is_none() => {
                tracing::debug!(%error, "cannot find out whether the kernel has a fast path; the next sync tries again");
            }
            Err(error) => {
                let family = self.config.family;
                tracing::warn!(
                    %family,
                    %error,
                    "the fast path that Services ask for needs the kernel modules nf_flow_table and nft_flow_offload; they do without it until kube-proxy starts again"
                );
                self.config.fast_path_choice = false;
                self.lacks_fast_path = true;
            }
        }
        false
    }

    fn start_fast_path(&mut self) -> Result<FastPath, Error> {
        let parts = Parts { flowtable: true, choices: true, ..Parts::default() };
        let mut fast_path = FastPath::new()?;
        super::probe(&mut self.netlink, &self.config, parts, Pick::Random)?;
        // What was read ahead is no other for our own transaction.
        if let Some((before, _)) = &mut self.ahead {
            let next = super::next_generation(*before);
            if self.netlink.generation()? == next {
                *before = next;
            }
        }
        if let Some(waker) = &self.waker {
            fast_path.set_waker(&self.config, waker.clone());
        }
        Ok(fast_path)
    }

    /// How many Services ask for the fast path in vain.
    pub(super) fn without_fast_path(&self, state: &State) -> usize {
        if !self.lacks_fast_path {
            return 0;
        }
        let asking = state.plans().filter(|(_, plan)| Wish::of(plan.port()) == Some(Wish::In));
        asking.map(|(name, _)| &name.service).collect::<BTreeSet<_>>().len()
    }

    /// Makes the flowtable have the interfaces that there are now, if they may have changed or `anyway`.
    pub(super) fn follow_links(&mut self, synced: &mut Synced, anyway: bool) -> Result<(), Error> {
        let Some(fast_path) = &mut self.fast_path else { return Ok(()) };
        if !Parts::of(&self.config, &synced.state).flowtable {
            return Ok(());
        }
        let changed = fast_path.watch.as_ref().is_none_or(LinkWatch::take);
        if !changed && !anyway {
            return Ok(());
        }
        let wanted = fast_path.wanted()?;
        let flowtables = self.netlink.flowtables(TABLE)?;
        let found = flowtables.into_iter().find(|flowtable| flowtable.name == FLOWTABLE);
        let present: BTreeSet<String> = found.unwrap_or_default().devices.into_iter().collect();
        let missing = wanted.difference(&present).filter(|name| !fast_path.refused.contains(*name));
        let missing: Vec<_> = missing.cloned().collect();
        let gone: Vec<_> = present.difference(&wanted).cloned().collect();
        self.change_devices(synced, &gone, false)?;
        self.change_devices(synced, &missing, true)
    }

    /// Adds or removes devices: all at once, or one by one if the kernel does not take one of them.
    fn change_devices(
        &mut self,
        synced: &mut Synced,
        devices: &[String],
        add: bool,
    ) -> Result<(), Error> {
        if devices.is_empty() {
            return Ok(());
        }
        match self.try_devices(synced, devices, add) {
            Err(error) if error.refusals().next().is_some() => {}
            result => return result,
        }
        for device in devices {
            match self.try_devices(synced, std::slice::from_ref(device), add) {
                // It went meanwhile, and older kernels have forgotten it by themselves.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.refusals().next().is_some() => self.refuse(device, &error),
                result => result?,
            }
        }
        Ok(())
    }

    fn try_devices(
        &mut self,
        synced: &mut Synced,
        devices: &[String],
        add: bool,
    ) -> Result<(), Error> {
        self.transaction.clear(None);
        if add {
            self.transaction.add_devices(FLOWTABLE, devices)
        } else {
            self.transaction.remove_devices(FLOWTABLE, devices)
        }
        .map_err(too_long)?;
        self.commit(synced)
    }

    fn refuse(&mut self, device: &str, error: &Error) {
        if let Some(fast_path) = &mut self.fast_path
            && fast_path.refused.insert(device.to_owned())
        {
            tracing::warn!("interface {device} takes no part in the fast path: {error}");
        }
    }
}
