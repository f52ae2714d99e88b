use kube_proxy_core::{Frontend, Protocol};

use super::{Batch, MANY_DELETIONS, Rules, Slot, hooks};
use crate::actual::Actual;
use crate::rules::Chain;

fn slot(port: u16) -> Slot {
    Slot::Frontend(Frontend::NodePort(Protocol::Tcp, port))
}

#[test]
fn only_what_differs_is_written() {
    let mut rules = Rules::default();
    let first = vec![(Chain::NodePortHost, "-p tcp -j A".to_owned())];
    rules.set(&slot(1), first.clone(), &mut Batch::default());
    let mut batch = Batch::default();
    rules.set(&slot(1), first, &mut batch);
    assert!(batch.is_empty());
    rules.set(&slot(1), vec![(Chain::NonLocal, "-p tcp -j B".to_owned())], &mut batch);
    batch.finish(&rules);
    let expected = "*filter\n-A KUBE-NODEPORT-NON-LOCAL -p tcp -j B\nCOMMIT\n\
        *nat\n-D KUBE-NODEPORT-HOST -p tcp -j A\nCOMMIT\n";
    assert_eq!(batch.pieces().concat(), expected);
    let counts: Vec<_> =
        rules.counts(&batch).iter().map(|count| (count.kind, count.written, count.total)).collect();
    assert_eq!(counts, [("filter", 1, 1), ("nat", 0, 0)]);
    let mut batch = Batch::default();
    rules.set(&slot(1), Vec::new(), &mut batch);
    rules.set(&slot(2), Vec::new(), &mut batch);
    batch.finish(&rules);
    assert_eq!(
        batch.pieces().concat(),
        "*filter\n-D KUBE-NODEPORT-NON-LOCAL -p tcp -j B\nCOMMIT\n"
    );
}

#[test]
fn the_ways_to_the_chains() {
    let mut batch = Batch::default();
    let existing = [Actual::default(), Actual::default()];
    batch.begin_anew(&hooks(&["-d 172.18.0.0/16".to_owned()]), &existing);
    expect_test::expect![[r#"
        *filter
        :KUBE-NODEPORT-NON-LOCAL - [0:0]
        :KUBE-USERSPACE-FIREWALL - [0:0]
        -I INPUT -m conntrack --ctstate NEW -m comment --comment "Ensure that non-local NodePort traffic can flow" -j KUBE-NODEPORT-NON-LOCAL
        -I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes userspace proxy firewall" -j KUBE-USERSPACE-FIREWALL
        -I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes userspace proxy firewall" -j KUBE-USERSPACE-FIREWALL
        -I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes userspace proxy firewall" -j KUBE-USERSPACE-FIREWALL
        COMMIT
        *nat
        :KUBE-PORTALS-CONTAINER - [0:0]
        :KUBE-PORTALS-HOST - [0:0]
        :KUBE-NODEPORT-CONTAINER - [0:0]
        :KUBE-NODEPORT-HOST - [0:0]
        -I PREROUTING -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
        -I OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -m mark ! --mark 0x1000/0x1000 -j KUBE-PORTALS-HOST
        -A PREROUTING -d 172.18.0.0/16 -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORT-CONTAINER
        -A OUTPUT -d 172.18.0.0/16 -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -m addrtype --dst-type LOCAL -m mark ! --mark 0x1000/0x1000 -j KUBE-NODEPORT-HOST
        COMMIT
    "#]].assert_eq(&batch.pieces().concat());
}

/// One deletion for each rule would cost the square of their number.
#[test]
fn a_chain_that_loses_many_rules_is_written_whole() {
    let rule = |number: u16, chain| vec![(chain, format!("-p tcp --dport {number} -j A"))];
    let mut rules = Rules::default();
    for number in 1..=1500 {
        rules.set(&slot(number), rule(number, Chain::NodePortHost), &mut Batch::default());
    }
    rules.set(&slot(2000), rule(2000, Chain::NodePortContainer), &mut Batch::default());
    let few = u16::try_from(MANY_DELETIONS).expect("few") - 1;
    let lines = |batch: &Batch| -> Vec<String> {
        batch.pieces().concat().lines().map(str::to_owned).collect()
    };
    let mut batch = Batch::default();
    for number in 1..=few {
        rules.set(&slot(number), Vec::new(), &mut batch);
    }
    batch.finish(&rules);
    let deleted = lines(&batch).iter().filter(|line| line.starts_with("-D")).count();
    assert_eq!((deleted, lines(&batch).len()), (few.into(), usize::from(few) + 2));
    let mut batch = Batch::default();
    for number in few + 1..=750 {
        rules.set(&slot(number), Vec::new(), &mut batch);
    }
    rules.set(&slot(2000), rule(2001, Chain::NodePortContainer), &mut batch);
    batch.finish(&rules);
    let lines = lines(&batch);
    assert_eq!(lines[1], ":KUBE-NODEPORT-HOST - [0:0]");
    let starting = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(starting("-A KUBE-NODEPORT-HOST"), 750, "what is left, once");
    assert_eq!(starting("-D KUBE-NODEPORT-HOST"), 0);
    assert_eq!(starting("-D KUBE-NODEPORT-CONTAINER"), 1, "a chain that changes little");
    assert_eq!(starting("-A KUBE-NODEPORT-CONTAINER"), 1);
    assert_eq!(rules.counts(&batch)[1].written, 751);
}
