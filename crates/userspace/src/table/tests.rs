use kube_proxy_core::Protocol;

use super::{Batch, Rules, Slot, hooks};
use crate::existing::Existing;
use crate::rules::{Chain, Frontend};

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
    let expected = "*filter\n-A KUBE-NODEPORT-NON-LOCAL -p tcp -j B\nCOMMIT\n\
        *nat\n-D KUBE-NODEPORT-HOST -p tcp -j A\nCOMMIT\n";
    assert_eq!(batch.pieces().concat(), expected);
    let counts: Vec<_> =
        rules.counts(&batch).iter().map(|count| (count.kind, count.written, count.total)).collect();
    assert_eq!(counts, [("filter", 1, 1), ("nat", 0, 0)]);
    let mut batch = Batch::default();
    rules.set(&slot(1), Vec::new(), &mut batch);
    rules.set(&slot(2), Vec::new(), &mut batch);
    assert_eq!(
        batch.pieces().concat(),
        "*filter\n-D KUBE-NODEPORT-NON-LOCAL -p tcp -j B\nCOMMIT\n"
    );
}

#[test]
fn the_ways_to_the_chains() {
    let mut batch = Batch::default();
    let existing = [Existing::default(), Existing::default()];
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
        -I OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-HOST
        -A PREROUTING -d 172.18.0.0/16 -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORT-CONTAINER
        -A OUTPUT -d 172.18.0.0/16 -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORT-HOST
        COMMIT
    "#]].assert_eq(&batch.pieces().concat());
}
