use super::*;
use crate::tests::model::Model;

#[test]
fn ours_and_theirs() {
    let model = Model::default();
    model
        .apply(
            "*filter\n:KUBE-SERVICES - [0:0]\n:KUBE-FIREWALL - [0:0]\n:KUBE-IPVS-FILTER - [0:0]\n:KUBE-FW-AAAA - [0:0]\n:MINE - [0:0]\n\
             -A KUBE-SERVICES -j REJECT\n\
             -A FORWARD -m comment --comment \"kubernetes service portals\" -m conntrack --ctstate NEW -j KUBE-SERVICES\n\
             -A OUTPUT -i lo -j KUBE-SERVICES\n\
             -A INPUT -m comment --comment \"not -j KUBE-SERVICES\" -j MINE\n\
             -A MINE -g KUBE-FW-AAAA\n\
             -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment \"block incoming localnet connections\" -j DROP\n\
             -A KUBE-FIREWALL -j RETURN\nCOMMIT\n",
        )
        .unwrap();
    let existing = Actual::read(&model, "filter").unwrap();
    let chains: Vec<_> = existing.chains.iter().map(ChainName::as_str).collect();
    assert_eq!(chains, ["KUBE-FW-AAAA", "KUBE-SERVICES"]);
    // The words of a hook count, not their order; additional words make it another rule.
    let present: Vec<_> =
        HOOKS.iter().filter(|h| existing.has(h)).map(|h| (h.from, h.to)).collect();
    assert_eq!(present, [("FORWARD", "KUBE-SERVICES")]);
    let (kept, deleted) = existing.part_by_references(|_| true);
    // A jump with more words than a hook is another program's.
    assert_eq!(kept, [ChainName::fixed("KUBE-FW-AAAA"), ChainName::fixed("KUBE-SERVICES")]);
    assert_eq!(deleted, []);
    assert!(existing.shared_firewall);
    assert_eq!(existing.anti_martian.len(), 1);
}

/// One line for each chain: which it is, and all rules that lead to it.
#[test]
fn the_log_says_who_leads_to_a_chain_that_is_kept() {
    let model = Model::default();
    model
        .apply(
            "*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SVC-AAAA - [0:0]\n:CNI-HOSTPORT - [0:0]\n\
             -A CNI-HOSTPORT -p tcp -m comment --comment \"a port\" -j KUBE-MARK-MASQ\n\
             -A PREROUTING -m mark --mark 7 -j KUBE-MARK-MASQ\n\
             -A KUBE-SVC-AAAA -j KUBE-MARK-MASQ\nCOMMIT\n",
        )
        .unwrap();
    let existing = Actual::read(&model, "nat").unwrap();
    let lines = logged(|| drop(existing.part_by_references(|_| true)));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("WARN"), "{line}");
    let expected = "chain emptied and kept, because rules of others lead to it table=\"nat\" chain=KUBE-MARK-MASQ \
        rules=-A CNI-HOSTPORT -p tcp -m comment --comment \"a port\" -j KUBE-MARK-MASQ; \
        -A PREROUTING -m mark --mark 7 -j KUBE-MARK-MASQ";
    assert!(line.ends_with(expected), "{line}");
}

/// What is written to the log meanwhile.
fn logged(what: impl FnOnce()) -> Vec<String> {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::with_default(log.finish(), what);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(ToOwned::to_owned).collect()
}
