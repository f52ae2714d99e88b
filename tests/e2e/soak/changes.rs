//! Random changes to Services, their policies and their endpoints.

use std::net::IpAddr;

use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use serde_json::json;

use crate::objects::{Ep, Svc};
use crate::world::{NODE, OTHER_NODE, TARGET, World};

/// Services that come and go.
const SERVICES: u8 = 24;
/// Endpoints to choose from, on each of the two nodes.
const ENDPOINTS: u64 = 12;

/// A source of changes; the same seed makes the same.
pub(super) struct Changes {
    state: u64,
    /// Which Services the API server has.
    present: [bool; SERVICES as usize],
}

impl Changes {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, present: [false; SERVICES as usize] }
    }

    /// A number below the limit.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Makes one change.
    pub(super) fn next(&mut self, world: &World) -> anyhow::Result<()> {
        let index = self.below(SERVICES.into());
        let number = u8::try_from(index + 1)?;
        let present = &mut self.present[usize::from(number) - 1];
        let name = format!("soak-{number}");
        if !*present {
            *present = true;
            let service = self.service(&name, number);
            return self.slices(world, &service, true);
        }
        match self.below(10) {
            0 => {
                self.present[usize::from(number) - 1] = false;
                world.delete("Service", &name)
            }
            1..=4 => {
                let service = self.service(&name, number);
                self.slices(world, &service, true)
            }
            // The slices say TCP and `p`, as most versions of the Service do.
            _ => self.slices(world, &Svc::new(&name, number), false),
        }
    }

    /// Deletes every Service that is there.
    pub(super) fn delete_all(&mut self, world: &World) -> anyhow::Result<()> {
        for (number, present) in (1..).zip(&mut self.present) {
            if std::mem::take(present) {
                world.delete("Service", &format!("soak-{number}"))?;
            }
        }
        Ok(())
    }

    fn service(&mut self, name: &str, number: u8) -> Svc {
        let mut service = Svc::new(name, number);
        service = match self.below(4) {
            0 => service,
            1 => service.node_port(),
            2 => service.external_ips(),
            _ => service.load_balancer(),
        };
        if self.below(3) == 0 {
            // The VIPs of another one: the first by name has them.
            let other = Svc::new(name, number % 5 + 1).load_balancer().object();
            let ingress = other["status"]["loadBalancer"]["ingress"].clone();
            service = service.with("/status/loadBalancer/ingress", ingress);
        }
        if self.flip() {
            service = service.external_local();
        }
        if self.below(4) == 0 {
            service = service.internal_local();
        }
        if self.below(4) == 0 {
            service = service.affinity(if self.flip() { 600 } else { 10_800 });
        }
        if self.below(4) == 0 {
            let ranges =
                ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16", "fd00::/8", "2001:db8::/32"];
            let some: Vec<_> = ranges.into_iter().filter(|_| self.flip()).collect();
            service = service.with("/spec/loadBalancerSourceRanges", json!(some));
        }
        if self.below(6) == 0 { service.udp() } else { service }
    }

    fn slices(&mut self, world: &World, service: &Svc, with_service: bool) -> anyhow::Result<()> {
        let endpoints: Vec<Ep> = match self.below(6) {
            0 => Vec::new(),
            few => (0..2 * ENDPOINTS)
                .filter(|_| self.below(few) == 0)
                .collect::<Vec<_>>()
                .into_iter()
                .map(|number| self.endpoint(number))
                .collect(),
        };
        if with_service {
            world.apply([service.object()])?;
        }
        world.apply(service.slices(TARGET, &endpoints))
    }

    fn endpoint(&mut self, number: u64) -> Ep {
        let node = u8::from(number >= ENDPOINTS);
        let nets = plan::pod_net(node);
        let address = |family| match nets.get(family).network() {
            IpAddr::V4(ip) => {
                IpAddr::V4((u32::from(ip) + 100 + u32::try_from(number).unwrap_or_default()).into())
            }
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + 100 + u128::from(number)).into()),
        };
        let endpoint =
            Ep::new(IpFamily::BOTH.map(address), if node == 0 { NODE } else { OTHER_NODE });
        match self.below(12) {
            0 => endpoint.unready(),
            1 => endpoint.terminating(),
            2 => endpoint.zone("zone-a"),
            _ => endpoint,
        }
    }
}
