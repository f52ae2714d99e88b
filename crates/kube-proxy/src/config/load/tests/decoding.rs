//! Files that are not quite, or not at all, what is expected.

use expect_test::expect;
use proptest::prelude::*;

use crate::config::Mode;
use crate::config::testing::{Given, file, without_directory};

#[test]
fn unknown_and_duplicate_fields_are_ignored_with_one_warning() {
    let loaded =
        file("mode: ipvs\nbogus: 1\nipvs: {schedular: sh, scheduler: lc}\nmode: nftables\n");
    assert_eq!(loaded.effective.mode, Mode::Nftables);
    assert_eq!(loaded.warnings.len(), 1);
    expect!["FILE: using lenient decoding, since strict decoding failed: unknown field \"bogus\" (line 4, column 1), unknown field \"ipvs.schedular\" (line 5, column 8), duplicate field \"mode\" (line 6, column 1)"].assert_eq(&without_directory(&loaded.warnings[0]));
}

#[test]
fn other_decoding_errors_are_fatal_and_say_where() {
    let error = |body| Given { file: Some(body), ..Given::default() }.error();
    for (body, expected) in [
        (
            "iptables:\n  masqueradeBit: x",
            expect![[
                r#"failed complete: failed to decode FILE line 4 column 18: iptables.masqueradeBit: invalid type: found string "x", expected i32"#
            ]],
        ),
        (
            "iptables: 5",
            expect![
                "failed complete: failed to decode FILE line 3 column 11: iptables: invalid type: found unsigned int `5`, expected an object"
            ],
        ),
        (
            "iptables: {syncPeriod: 5}",
            expect![[
                r#"failed complete: failed to decode FILE line 3 column 24: iptables.syncPeriod: invalid type: found unsigned int `5`, expected a duration such as "30s""#
            ]],
        ),
        (
            "iptables: {syncPeriod: 5x}",
            expect![[
                r#"failed complete: failed to decode FILE line 3 column 24: iptables.syncPeriod: invalid duration "5x": the units are h, m, s, ms, us and ns (write for example 30s, 1m30s or 250ms)"#
            ]],
        ),
        (
            "hostnameOverride: 5",
            expect![
                "failed complete: failed to decode FILE line 3 column 19: hostnameOverride: invalid type: found unsigned int `5`, expected a string"
            ],
        ),
        (
            "oomScoreAdj: 99999999999",
            expect![
                "failed complete: failed to decode FILE line 3 column 14: oomScoreAdj: invalid value unsigned int `99999999999`, expected i32"
            ],
        ),
        (
            "oomScoreAdj: 1.5",
            expect![
                "failed complete: failed to decode FILE line 3 column 14: oomScoreAdj: invalid type: found float `1.5`, expected i32"
            ],
        ),
        (
            "nodePortAddresses: [a, [b]]",
            expect![
                "failed complete: failed to decode FILE line 3 column 24: nodePortAddresses[1]: invalid type: found sequence, expected a string"
            ],
        ),
        (
            "featureGates: {A: maybe}",
            expect![[
                r#"failed complete: failed to decode FILE line 3 column 19: featureGates.A: invalid type: found string "maybe", expected a boolean"#
            ]],
        ),
        (
            "logging: {verbosity: -1}",
            expect![
                "failed complete: failed to decode FILE line 3 column 22: logging.verbosity: invalid value signed int `-1`, expected u32"
            ],
        ),
        (
            "logging: {options: {text: {infoBufferSize: 5q}}}",
            expect![[
                r#"failed complete: failed to decode FILE line 3 column 44: logging.options.text.infoBufferSize: invalid quantity "5q": write a number with an optional suffix such as Ki, Mi, k or M"#
            ]],
        ),
        (
            "a: [",
            expect!["failed complete: failed to decode FILE line 3 column 4: unclosed bracket '['"],
        ),
    ] {
        expected.assert_eq(&error(body));
    }
    let missing = Given { flags: "--config=/no/such/file", ..Given::default() }.error();
    assert!(missing.starts_with("failed complete: failed to read /no/such/file: No such file"));
    let variables = &[("KUBE_PROXY_V", "x")];
    let wrong = Given { variables, ..Given::default() }.error();
    assert!(wrong.starts_with("failed complete: environment variable KUBE_PROXY_V: "), "{wrong}");
}

proptest! {
    #[test]
    fn any_file_loads_or_fails(body in "([a-zA-Z]{2,8}: ?|- |\\{|\\}|\"|\n {0,3}|[0-9]{1,3}s?|mode: |iptables:\n|  syncPeriod: |logging: |featureGates: |nodePortAddresses:\n|0|-|null|\\PC){0,24}") {
        let _ = Given { file: Some(&body), ..Given::default() }.load();
    }
}
