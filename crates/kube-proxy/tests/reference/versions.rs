//! The table of Kubernetes versions in `docs/compatibility.md`, and the tests that its last column promises.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use expect_test::expect_file;

/// The minor versions of Kubernetes 1 that the table has a column for.
const MINORS: [u16; 5] = [34, 35, 36, 37, 38];

/// Where the table stands in the page.
const BEGIN: &str = "<!-- versions: begin -->\n";
const END: &str = "<!-- versions: end -->\n";

/// One difference between versions.
struct Row {
    what: &'static str,
    /// What the Go kube-proxy, or a cluster, of each version does.
    versions: [&'static str; 5],
    /// What this kube-proxy does in a cluster of any of them.
    here: &'static str,
    /// Tests that show it, by the last part of their names.
    tests: &'static [&'static str],
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row {
        what: "mode unset",
        versions: ["iptables", "iptables", "iptables", "iptables, with a warning and an Event", "as 1.37; nftables from 1.40 on (KEP-5343)"],
        here: "iptables, with a warning and an Event; `auto` chooses",
        tests: &["mode/unset", "mode/auto-on-a-fresh-node"],
    },
    Row {
        what: "mode ipvs",
        versions: ["works", "works, with a warning", "works, with a warning and an Event", "works while the gate `KubeProxyIPVS` is on", "as 1.37; the gate is off from 1.40 on"],
        here: "works, with an Event; the gate is accepted and refuses nothing",
        tests: &["the_ipvs_mode_stays_whatever_its_gate"],
    },
    Row {
        what: "names of feature gates it does not know",
        versions: ["accepts those of all components, else ends"; 5],
        here: "accepts every name, and lists those without effect",
        tests: &["any_gate_is_accepted_from_file_flag_and_environment"],
    },
    Row {
        what: "gate `AllowServiceExternalIPs` (KEP-5707)",
        versions: ["absent", "absent", "on, can be turned off", "as 1.36", "as 1.36; off from 1.40 on"],
        here: "on, can be turned off",
        tests: &["safety/external-ips-off"],
    },
    Row {
        what: "node hints of EndpointSlices (`PreferSameNode`)",
        versions: ["with the gate `PreferSameTrafficDistribution`, on", "always", "always", "always", "always"],
        here: "always",
        tests: &["choice"],
    },
    Row {
        what: "`nodePortAddresses`",
        versions: ["networks, or `primary` alone", "as 1.34", "as 1.34", "networks, `primary`, `localhost` and `all` in any mix", "as 1.37"],
        here: "as 1.37, in every mode",
        tests: &["node-port-keywords", "node-port-all", "life/node-address-changes"],
    },
    Row {
        what: "NodePorts on loopback in nftables mode (KEP-6032)",
        versions: ["none", "none", "none", "TCP, with the gate `KubeProxyNFTablesLocalhostNodePorts`, off, and a loopback entry", "as 1.37, the gate is on"],
        here: "TCP and UDP; as 1.38, or with `--nftables-localhost-nodeports`; what is not served is refused and counted, as there",
        tests: &["nftables/localhost-node-ports", "nftables/localhost-node-ports-refused"],
    },
    Row {
        what: "UDP flows of a Service that lost its last endpoint",
        versions: ["stay", "stay", "stay", "deleted", "deleted"],
        here: "deleted",
        tests: &["conntrack/scaled-to-zero-and-back"],
    },
    Row {
        what: "UDP flows of a deleted Service",
        versions: ["stay", "stay", "stay", "stay", "deleted"],
        here: "deleted, also when it was deleted while the proxy was down",
        tests: &["conntrack/service-deleted", "conntrack/removed-while-down"],
    },
    Row {
        what: "`nf_conntrack_max` is higher already",
        versions: ["not checked", "not checked", "lowered", "lowered", "kept"],
        here: "kept",
        tests: &["the_limit_is_raised_and_never_lowered"],
    },
    Row {
        what: "the address of the Node changes",
        versions: ["not checked", "not checked", "logged", "the process ends", "the process ends"],
        here: "rules follow, without an end",
        tests: &["life/node-address-changes"],
    },
    Row {
        what: "Service names that begin with a digit",
        versions: ["with a gate of the API server", "as 1.34", "as 1.34", "not checked", "always"],
        here: "served",
        tests: &["names_of_any_form_are_served"],
    },
    Row {
        what: "keys of certificates that kubeadm issues",
        versions: ["RSA, ECDSA", "RSA, ECDSA", "RSA, ECDSA", "RSA, ECDSA", "RSA, ECDSA, ML-DSA"],
        here: "all of these, P-521 and Ed25519",
        tests: &["keys_of_all_kinds_in_both_versions_of_tls", "keys_that_quantum_computers_do_not_break"],
    },
];

#[test]
fn the_table_of_versions_is_up_to_date() {
    let page = root().join("docs/compatibility.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page says where the table begins");
    let (_, after) = rest.split_once(END).expect("the page says where the table ends");
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    expect_file![page].assert_eq(&expected);
}

#[test]
fn the_tests_of_the_table_exist() {
    let mut sources = String::new();
    for directory in ["crates", "tests"] {
        read(&root().join(directory), &mut sources);
    }
    for Row { what, tests, .. } in ROWS {
        assert!(!tests.is_empty(), "no test for {what:?}");
        for test in *tests {
            let short = test.rsplit_once('/').map_or(*test, |(_, short)| short);
            let is_there = [format!("fn {test}("), format!("\"{test}\""), format!("\"{short}\"")]
                .iter()
                .any(|form| sources.contains(form));
            assert!(is_there, "{what}: there is no test {test}");
        }
    }
}

fn table() -> String {
    let mut table = "| what |".to_owned();
    for minor in MINORS {
        write!(table, " 1.{minor} |").unwrap();
    }
    table += " here | tests |\n|---|---|---|---|---|---|---|---|\n";
    for Row { what, versions, here, tests } in ROWS {
        let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
        let tests = tests.join(", ");
        writeln!(table, "| {what} | {} | {here} | {tests} |", versions.join(" | ")).unwrap();
    }
    table
}

/// Adds the text of all Rust files in a directory but this one, whose table names the tests.
fn read(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("versions.rs")
        {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
