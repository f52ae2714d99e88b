//! The health-check node ports of Services, and the events about them.

use std::net::{SocketAddr, TcpListener};

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use serde_json::{Value, json};

use super::events::event;
use super::{loopback, raw};
use crate::objects::Svc;
use crate::world::{GUARD, Mode, World};

pub(super) const PORT: u16 = 32_100;

/// A Service with that health-check node port.
pub(super) fn service() -> Svc {
    let service = Svc::new("web", 1).load_balancer().external_local();
    service.with("/spec/healthCheckNodePort", PORT)
}

/// Waits for an answer with this status and count, on the node's address of a family.
fn answers(world: &World, family: IpFamily, status: u16, count: u64) {
    let to = SocketAddr::new(world.cluster.node(0).ip(family), PORT);
    eventually(GUARD, || {
        let answer = world.cluster.client().probe().http_get(to, "/any/path")?;
        ensure!(answer.status == status, "{to}: {answer:?}");
        let weight = answer.header("x-load-balancing-endpoint-weight");
        ensure!(weight == Some(&*count.to_string()), "{to}: {answer:?}");
        ensure!(answer.header("content-type") == Some("application/json"), "{to}: {answer:?}");
        let body: Value = serde_json::from_str(&answer.body)?;
        let expected = json!({
            "service": { "namespace": "default", "name": "web" },
            "localEndpoints": count,
            "serviceProxyHealthy": true,
        });
        ensure!(body == expected, "{to}: {body}");
        Ok(())
    });
}

/// Ready endpoints on the node count, those elsewhere do not; the port goes with the Service. The health server is not needed.
pub(crate) fn follow_endpoints() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::IptablesNft, &["--healthz-bind-address="])?;
    for (pods, status, count) in [
        (&["local-1", "local-2", "remote-1"][..], 200, 2),
        (&["remote-1"][..], 503, 0),
        (&["local-1"][..], 200, 1),
    ] {
        world.serve(&service(), pods)?;
        for family in IpFamily::BOTH {
            answers(&world, family, status, count);
        }
        // The checks of HAProxy, and others that look at the status only.
        for method in ["OPTIONS", "HEAD", "POST", "PUT"] {
            let request = format!("{method} / HTTP/1.0\r\n\r\n");
            let answer = raw(&world, PORT, &request)?;
            let expected = format!("HTTP/1.0 {status} ");
            ensure!(answer.starts_with(&expected), "{method}: {answer}, not {expected}");
        }
    }
    world.delete("Service", "web")?;
    for family in IpFamily::BOTH {
        let to = SocketAddr::new(world.cluster.node(0).ip(family), PORT);
        eventually(GUARD, || {
            let answer = world.cluster.client().probe().http_get(to, "/");
            ensure!(answer.is_err(), "{to} still answers: {answer:?}");
            Ok(())
        });
    }
    Ok(())
}

/// A port that another program holds is an event about the Service, and is opened once it is free.
pub(crate) fn port_in_use() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::IptablesNft, &["--nodeport-addresses=127.0.0.0/8"])?;
    eventually(GUARD, || {
        let starting = event(&world, "Starting")?;
        ensure!(starting["regarding"]["kind"] == json!("Node"), "{starting}");
        Ok(())
    });
    let holder = world.cluster.node(0).netns().run(|| TcpListener::bind(loopback(PORT)))?;
    world.serve(&service(), &["local-1"])?;
    eventually(GUARD, || {
        let failed = event(&world, "FailedToStartServiceHealthcheck")?;
        ensure!(failed["regarding"]["name"] == json!("web"), "{failed}");
        ensure!(failed["type"] == json!("Warning"), "{failed}");
        Ok(())
    });
    drop(holder);
    eventually(GUARD, || {
        let answer = world.cluster.node(0).probe().http_get(loopback(PORT), "/")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    });
    Ok(())
}
