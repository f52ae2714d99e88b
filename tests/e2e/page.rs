//! The page at `/explain`, as a browser shows it: what is in its document once its scripts have run.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::{say, tools};
use serde_json::json;

use crate::Once;
use crate::objects::{Svc, node};
use crate::world::{From, GUARD, Mode, NODE, World, cluster_address};

pub(crate) const ONCE: &[Once] = &[
    ("page/shows-the-node", shows_the_node),
    ("page/names-stay-text", names_stay_text),
    ("page/ten-thousand-services", ten_thousand_services),
];

/// Milliseconds of the page's own clock, which stands still while it waits for answers.
const BUDGET: &str = "--virtual-time-budget=60000";

/// The document of a view, or `None` with a word about it where there is no browser. In CI that is a failure.
fn browse(world: &World, view: &str) -> anyhow::Result<Option<String>> {
    let Some(browser) = tools::browser() else {
        let needed = std::env::var("CI").is_ok_and(|ci| ci == "true");
        ensure!(!needed, "no browser; `cargo xtask check-host` installs one on Debian");
        say!("no browser: the page is not looked at");
        return Ok(None);
    };
    let profile = tempfile::tempdir()?;
    let mut command = world.cluster.node(0).netns().command(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.args([BUDGET, "--dump-dom"]).arg(format!("http://127.0.0.1:10249/explain#{view}"));
    let output = command.output().context("the browser")?;
    let document = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    ensure!(document.contains("<main"), "no document: {document:?} {errors}");
    Ok(Some(document))
}

/// Waits until the view has each of these texts, and none of the others: a browser on a busy machine may print the document before all
/// answers are in it.
fn shows(world: &World, view: &str, texts: &[&str], not: &[&str]) {
    eventually(GUARD, || shows_now(world, view, texts, not));
}

fn shows_now(world: &World, view: &str, texts: &[&str], not: &[&str]) -> anyhow::Result<()> {
    let Some(document) = browse(world, view)? else { return Ok(()) };
    for text in texts {
        ensure!(document.contains(text), "#{view}: {text:?} is not in:\n{document}");
    }
    for text in not {
        ensure!(!document.contains(text), "#{view}: {text:?} is in:\n{document}");
    }
    Ok(())
}

fn shows_the_node() -> anyhow::Result<()> {
    let world = World::new(Mode::Nftables)?;
    // Services and slices come by different watches: in this order the last change of `web` is one of its slices.
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    world.serve(&Svc::new("empty", 2), &[])?;
    world.settle()?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1", "remote-1"])?;
    world.settle()?;
    let to = cluster_address(1, IpFamily::V4);
    world.probe(From::Pod("client")).tcp(to).answer()?;
    let local = format!("{}:8080", world.pod("local-1").ip(IpFamily::V4));
    let remote = format!("{}:8080", world.pod("remote-1").ip(IpFamily::V4));
    let frontend = format!("{to}/tcp");
    let both = ["default/web:p", "default/empty:p", &*frontend, "node-a, nftables mode"];
    shows(&world, "", &both, &["No answer"]);
    let found = ["default/web:p", "2 of 8 service ports"];
    shows(&world, "services=&q=WEB", &found, &["default/empty:p"]);
    let by_address = format!("services=&q={to}");
    shows(&world, &by_address, &["default/web:p", "1 of 8 service ports"], &["default/empty"]);
    shows(&world, "services=&q=nothing-like-it", &["0 of 8 service ports"], &["<table"]);
    let counted = "<dt>Connections</dt><dd>1</dd>";
    let of_web = [&*local, &*remote, "ready", "node port", counted, "Recent changes", "added"];
    shows(&world, "service=default/web", &of_web, &["No endpoints"]);
    shows(
        &world,
        "service=default/empty",
        &["No endpoints", "0 of 0 ready"],
        &["<th scope=\"col\">Endpoint"],
    );
    shows(&world, "service=default/never", &["serves no Service of this name"], &["<h2"]);
    let explained = ["Goes to an endpoint", "default/web:p", &*local, "goes to one of 2 endpoints"];
    shows(&world, &format!("explain={to}"), &explained, &["[object"]);
    let looked_up = [
        "Last change",
        "EndpointSlice web-",
        "On the node",
        "objects serve it, as they should be",
        "element frontend-ips: ",
    ];
    shows(&world, "explain=default/web", &looked_up, &["[object"]);
    let refused = ["Refused", "default/empty:p", "Next"];
    shows(&world, "explain=default/empty&from=node", &refused, &["[object"]);
    shows(&world, "explain=default/wbe", &["Perhaps one of these", "default/web:p"], &[]);
    shows(&world, "explain=10.96.0.10", &["has no port"], &["Goes to"]);
    let checked = ["everything is on the node as it should be"];
    shows(&world, "check=", &checked, &["No answer"]);
    world.cluster.node(0).netns().sysctl(&[("ipv4/ip_forward", "0")])?;
    let problem = ["Problem", "net.ipv4.ip_forward is 0", "To do: sysctl -w"];
    shows(&world, "check=", &problem, &["No answer"]);
    let changed = ["EndpointSlice web-", "2 of 2 ready", "Service empty added", " ms"];
    shows(&world, "changes=", &changed, &["No answer"]);
    Ok(())
}

/// What no API server lets in, manifests may carry: it appears as text, and nothing of it runs.
fn names_stay_text() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    let directory = tempfile::tempdir()?;
    let markup = "<img src=x onerror=document.title=1>";
    let service = Svc::new("web", 1)
        .with("/spec/ports/0/name", markup)
        .with("/metadata/name", markup)
        .with("/metadata/namespace", "<b>shop</b>");
    let plain = Svc::new("plain", 2);
    let mut slices = plain.slices(8080, &world.endpoints(&["local-1"]));
    for slice in &mut slices {
        slice["endpoints"][0]["hints"] =
            json!({"forZones": [{"name": "<script>alert(1)</script>"}]});
    }
    let objects = [service.object(), plain.object(), node(NODE, 0, "zone-a")];
    let documents = objects.iter().chain(&slices).map(|object| format!("---\n{object:#}\n"));
    fs::write(directory.path().join("all.yaml"), documents.collect::<String>())?;
    world.source = vec![format!("--manifests={}", directory.path().display())];
    world.start()?;
    let elements = ["<img", "<b>shop", "<script>alert", "document.title=1\""];
    let escaped = "&lt;img src=x onerror=document.title=1&gt;";
    for (view, text) in [
        ("", "default/plain:p"),
        ("changes=", "Changes"),
        ("service=default/plain", "default/plain"),
        (&format!("service=<b>shop</b>/{markup}"), escaped),
        (&format!("explain={markup}"), escaped),
        (&format!("explain={markup}:1/udp&from={markup}"), escaped),
        (&format!("explain=default/plain&from={markup}"), "is no source"),
        (&format!("services=&q={markup}"), "service ports"),
    ] {
        shows(&world, view, &[text], &elements);
    }
    Ok(())
}

/// So many rows would make the browser stall: it gets a part of them, and a search looks at all.
fn ten_thousand_services() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    let directory = tempfile::tempdir()?;
    let mut text = String::new();
    for number in 0..10_000_u16 {
        let [high, low] = number.to_be_bytes();
        let ip = format!("10.96.{high}.{low}");
        write!(
            text,
            "---\n{}\n",
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("web-{number}"), "namespace": "default"},
                "spec": {
                    "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                },
            })
        )?;
    }
    write!(text, "---\n{}\n", node(NODE, 0, "zone-a"))?;
    fs::write(directory.path().join("all.yaml"), text)?;
    world.source = vec![format!("--manifests={}", directory.path().display())];
    world.start()?;
    let Some(document) = browse(&world, "")? else { return Ok(()) };
    ensure!(document.contains("10,000 of 10,000 service ports"), "{document}");
    ensure!(document.contains("100 of 10,000 shown"), "{document}");
    let rows = document.matches("<tr").count();
    ensure!(rows == 101, "{rows} rows");
    let found = ["default/web-9876:http", "1 of 10,000 service ports"];
    shows(&world, "services=&q=web-9876", &found, &["web-9875"]);
    Ok(())
}
