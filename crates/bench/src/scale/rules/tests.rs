use super::{Counts, in_iptables_save, in_nft_list};

#[test]
fn rules_of_iptables_are_counted() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
                -A PREROUTING -j KUBE-SERVICES\nCOMMIT\n";
    assert_eq!(in_iptables_save(text), Counts { rules: 1, chains: 2 });
}

#[test]
fn rules_of_nftables_are_counted_and_elements_are_not() {
    let text = "table ip kube-proxy {\n\tmap service-ips {\n\t\ttype ipv4_addr : verdict\n\
                \t\telements = { 10.0.0.1 : goto a,\n\t\t\t10.0.0.2 : goto b }\n\t}\n\n\
                \tchain services {\n\t\tip daddr vmap @service-ips\n\t}\n\n\
                \tchain nat-prerouting {\n\t\ttype nat hook prerouting priority -100;\n\
                \t\tjump services\n\t\treturn\n\t}\n}\n";
    assert_eq!(in_nft_list(text), Counts { rules: 3, chains: 2 });
}
