//! Files that are not quite, or not at all, what is expected.

use expect_test::expect;
use proptest::prelude::*;

use crate::Mode;
use crate::testing::{Given, file, without_directory};

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

#[test]
fn a_file_without_end_is_refused() {
    let error = Given { flags: "--config=/dev/zero", ..Given::default() }.error();
    assert!(error.contains("failed to read /dev/zero: it has more than 4194304 bytes"), "{error}");
    let error = Given { flags: "--config=/", ..Given::default() }.error();
    assert!(error.contains("failed to read /: Is a directory"), "{error}");
}

#[test]
fn documents_as_editors_and_templates_leave_them() {
    let unset = "iptables: null\nconntrack: {min: null, maxPerCore: ~}\nnodePortAddresses: [null]\n\
                 featureGates: {A: null}\nclientConnection: null\nlogging: {vmodule: [null], options: null}";
    assert_eq!(file(unset).effective, file("").effective);
    let shared = "mode: nftables\niptables: &periods {syncPeriod: 40s}\nnftables: {<<: *periods, masqueradeAll: true}";
    assert_eq!(file(shared).effective.sync_period.as_secs(), 40);
    for more in ["---\n", "...\n", "# the end\n---\n# nothing\n"] {
        assert_eq!(file(more).effective, file("").effective, "{more}");
    }
    let nine = "{a: &a [x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], \
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: [*e,*e,*e,*e,*e,*e,*e,*e,*e]}";
    let bomb = format!("extra: {nine}");
    let deep = format!("extra: {}", "[".repeat(100_000));
    for body in [bomb.as_str(), deep.as_str(), "iptables: &i {x: *i}", "---\nmode: ipvs"] {
        let error = Given { file: Some(body), ..Given::default() }.error();
        assert!(error.starts_with("failed complete: failed to decode FILE"), "{error}");
    }
}

#[test]
fn an_empty_variable_is_unset_unless_empty_is_a_value() {
    let variables = &[
        ("KUBE_PROXY_V", ""),
        ("KUBE_PROXY_CONFIG", ""),
        ("KUBE_PROXY_MASQUERADE_ALL", ""),
        ("KUBE_PROXY_IPTABLES_SYNC_PERIOD", ""),
        ("KUBE_PROXY_HEALTHZ_BIND_ADDRESS", ""),
    ];
    let effective = Given { variables, ..Given::default() }.loaded().effective;
    let expected = crate::testing::flags("--healthz-bind-address=").effective;
    assert_eq!(effective, expected);
    assert_eq!(effective.healthz_address, None);
}

#[test]
fn numbers_as_templates_write_them() {
    let body = "conntrack: {min: 1.048576e+06, maxPerCore: 65536.0}\noomScoreAdj: -998.0\n\
                iptables: {masqueradeBit: 1.5e1}\nlogging: {verbosity: 2e0, options: {json: {infoBufferSize: 6.5536e+04}}, vmodule: [{filePattern: a, verbosity: 3.0}]}\n\
                clientConnection: {burst: 1e1, qps: 5.0}\nfeatureGates: {LoggingAlphaOptions: yes}";
    let loaded = file(body);
    let config = &loaded.configuration;
    assert_eq!(
        (config.conntrack.min, config.conntrack.max_per_core),
        (Some(1_048_576), Some(65_536))
    );
    assert_eq!((config.oom_score_adj, config.iptables.masquerade_bit), (Some(-998), Some(15)));
    assert_eq!((config.logging.verbosity, config.logging.vmodule[0].verbosity), (2, 3));
    assert_eq!(config.logging.options.json.info_buffer_size.bytes(), 65_536);
    assert_eq!(
        (config.client_connection.burst, config.client_connection.qps.to_string().as_str()),
        (10, "5")
    );
    assert!(loaded.effective.feature_gates.enabled("LoggingAlphaOptions"));
    // As Go reads YAML.
    for (text, number) in
        [("010", 8), ("0x10", 16), ("1_00", 100), ("+5", 5), ("0080", 80), ("-0.0", 0)]
    {
        let score = file(&format!("oomScoreAdj: {text}")).configuration.oom_score_adj;
        assert_eq!(score, Some(number), "{text}");
    }
    for text in ["1.5", "1e300", "'5'", "1e-1", "99999999999999999999"] {
        let body = format!("oomScoreAdj: {text}");
        let error = Given { file: Some(&body), ..Given::default() }.error();
        assert!(error.contains("oomScoreAdj: invalid"), "{text}: {error}");
    }
    let variables = &[("KUBE_PROXY_CONNTRACK_MIN", "1.048576e+06"), ("KUBE_PROXY_V", "3.0")];
    let given = Given { variables, flags: "--oom-score-adj=-998.0", file: None };
    let config = given.loaded().configuration;
    assert_eq!((config.conntrack.min, config.logging.verbosity), (Some(1_048_576), 3));
    assert_eq!(config.oom_score_adj, Some(-998));
    for flags in ["--oom-score-adj=1.5", "--v=1e", "--v=-1.0", "--conntrack-min=1e10"] {
        let error = Given { flags, ..Given::default() }.error();
        assert!(error.contains("invalid value"), "{flags}: {error}");
    }
}

proptest! {
    #[test]
    fn any_file_loads_or_fails(body in "([a-zA-Z]{2,8}: ?|- |\\{|\\}|\"|\n {0,3}|[0-9]{1,3}s?|mode: |iptables:\n|  syncPeriod: |logging: |featureGates: |nodePortAddresses:\n|0|-|null|\\PC){0,24}") {
        let _ = Given { file: Some(&body), ..Given::default() }.load();
    }
}
