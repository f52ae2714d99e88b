use super::*;

/// `iptables-save` of one table, and what was written.
struct Text {
    saved: &'static str,
    written: String,
}

impl Rules for Text {
    fn save(&mut self, _: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.saved.lines().for_each(each);
        Ok(())
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        self.written.push_str(input);
        Ok(())
    }
}

const FILTER: &str = "\
*filter
:INPUT ACCEPT [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
-A KUBE-NODE-PORT -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
COMMIT
";

fn written(saved: &'static str, keep_shared: bool, keep_filter: bool) -> (bool, String) {
    let mut text = Text { saved, written: String::new() };
    let found = remove_rules(&mut text, "filter", keep_shared, keep_filter).unwrap();
    (found, text.written)
}

#[test]
fn the_filter_stays_as_long_as_connections_need_it() {
    let (found, input) = written(FILTER, false, true);
    assert!(found && !input.contains("KUBE-IPVS-FILTER"), "{input}");
    assert!(
        input.contains("-X KUBE-NODE-PORT\n") && input.contains("-X KUBE-FORWARD\n"),
        "{input}"
    );
    let rest = "*filter\n:KUBE-IPVS-FILTER - [0:0]\n-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER\nCOMMIT\n";
    assert_eq!(written(rest, false, true), (false, String::new()), "the second time");
    let (found, input) = written(rest, false, false);
    assert!(found && input.contains("-X KUBE-IPVS-FILTER\n"), "{input}");
    assert!(input.contains("-D INPUT "), "{input}");
}

#[test]
fn chains_of_the_iptables_mode_stay_where_it_runs() {
    let (_, input) = written(FILTER, true, false);
    assert!(!input.contains("KUBE-FORWARD") && input.contains("-X KUBE-IPVS-FILTER\n"), "{input}");
}
