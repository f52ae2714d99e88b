use super::*;

fn write(make: impl FnOnce(&mut Rules<'_>)) -> String {
    let mut text = String::new();
    let mut owners = Owners::new();
    let mut rules = Rules {
        text: &mut text,
        chain: ChainName::fixed("C"),
        owners: &mut owners,
        first_line: 0,
        count: 0,
    };
    make(&mut rules);
    text
}

#[test]
fn a_rule_is_one_line_in_the_order_of_its_parts() {
    let text = write(|rules| {
        rules
            .rule()
            .from("10.0.0.1".parse().unwrap())
            .to("fd00::1".parse().unwrap())
            .protocol(Protocol::Udp)
            .comment("what it is for")
            .port(Protocol::Udp, 53)
            .jump("ACCEPT");
        rules.rule().words("-m x").goto("D");
        rules.rule().whole("-j RETURN");
    });
    assert_eq!(
        text,
        "-A C -s 10.0.0.1/32 -d fd00::1/128 -p udp -m comment --comment \"what it is for\" \
         -m udp --dport 53 -j ACCEPT\n-A C -m x -g D\n-A C -j RETURN\n"
    );
}
