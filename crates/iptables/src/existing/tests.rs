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
    let existing = Existing::read(&model, "filter").unwrap();
    let chains: Vec<_> = existing.chains.iter().map(ChainName::as_str).collect();
    assert_eq!(chains, ["KUBE-FW-AAAA", "KUBE-SERVICES"]);
    // The words of a hook count, not their order; additional words make it another rule.
    let present: Vec<_> =
        HOOKS.iter().filter(|h| existing.has(h)).map(|h| (h.from, h.to)).collect();
    assert_eq!(present, [("FORWARD", "KUBE-SERVICES")]);
    let referenced: Vec<_> = existing.referenced().into_iter().collect();
    assert_eq!(referenced, [ChainName::fixed("KUBE-FW-AAAA")]);
    assert!(existing.shared_firewall);
    assert_eq!(existing.anti_martian.len(), 1);
}
