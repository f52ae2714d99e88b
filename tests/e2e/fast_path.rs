//! The annotation that asks for the fast path. Kernels without flowtables serve the Service all the same, and say what it lacks.

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::PerMode;
use crate::check::ask;
use crate::objects::Svc;
use crate::world::{From, GUARD, Mode, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[("fast-path/asked-for-by-annotation", asked_for)];

const METRIC: &str = "kubeproxy_services_without_their_fast_path";
const MESSAGE: &str = "the fast path that Services ask for needs the kernel modules";

fn wishing(wish: &str) -> Svc {
    let annotations = json!({ "kube-proxy.io/fast-path": wish });
    Svc::new("web", 1).node_port().with("/metadata/annotations", annotations)
}

fn asked_for(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&wishing("true"), &["local-1"])?;
    world.settle()?;
    let lacks = has_line(&world);
    let explained = ask(&world, &["explain", "default/web"])?.stdout;
    let told = if lacks { "asked for, but this kernel" } else { "go through the flowtable" };
    ensure!(explained.contains("Fast path") && explained.contains(told), "{explained}");
    let metrics = |world: &World| -> anyhow::Result<String> {
        let probe = world.cluster.node(0).probe();
        Ok(probe.http_get("127.0.0.1:10249".parse()?, "/metrics")?.body)
    };
    let ensure_counted = |world: &World, count: u8| -> anyhow::Result<()> {
        let text = metrics(world)?;
        for family in IpFamily::BOTH {
            let line = format!("{METRIC}{{ip_family=\"{family}\"}} {count}");
            ensure!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        Ok(())
    };
    ensure_counted(&world, u8::from(lacks))?;
    for family in IpFamily::BOTH {
        let client = world.probe(From::Pod("client"));
        client.tcp(cluster_address(1, family)).answer()?;
    }
    // It is said once for each family, whatever else changes.
    world.serve(&wishing("true"), &["local-1", "remote-1"])?;
    world.settle()?;
    let lines = world.proxy().lines();
    let count = lines.iter().filter(|line| line.contains(MESSAGE)).count();
    ensure!(count == if lacks { 2 } else { 0 }, "{count} lines");
    world.serve(&wishing("no"), &["local-1"])?;
    world.settle()?;
    ensure_counted(&world, 0)?;
    let text = metrics(&world)?;
    ensure!(text.contains("kubeproxy_invalid_objects{kind=\"Service\"} 1"), "{text}");
    let explained = ask(&world, &["explain", "default/web"])?.stdout;
    ensure!(!explained.contains("Fast path"), "{explained}");
    // A process that starts again says it again.
    world.serve(&wishing("true"), &["local-1"])?;
    world.settle()?;
    world.stop()?;
    world.start()?;
    eventually(GUARD, || {
        ensure!(has_line(&world) == lacks);
        ensure_counted(&world, u8::from(lacks))
    });
    Ok(())
}

fn has_line(world: &World) -> bool {
    world.proxy().lines().iter().any(|line| line.contains(MESSAGE))
}
