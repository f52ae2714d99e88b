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

#[test]
fn comments_cannot_end_early() {
    let text = write(|rules| rules.rule().comment("a\"b\\c\nd\te'fä").jump("X"));
    assert_eq!(text, "-A C -m comment --comment \"a_b_c_d_e_f_\" -j X\n");
}

#[test]
fn comments_are_cut_to_what_the_kernel_keeps() {
    let long = "x".repeat(200);
    let text = write(|rules| rules.rule().comment(format_args!("{long}{long}")).no_target());
    assert_eq!(text.matches('x').count(), 255);
}

#[test]
fn detectors() {
    use LocalTrafficDetector as Detector;
    assert_eq!(if_local(&Detector::None), None);
    let net = "10.1.2.3/8".parse().unwrap();
    assert_eq!(if_local(&Detector::Cidr(net)).unwrap(), "-s 10.0.0.0/8");
    assert_eq!(if_local(&Detector::Bridge("cbr0".into())).unwrap(), "-i cbr0");
    let prefix = Detector::InterfacePrefix("veth".into());
    assert_eq!(if_local(&prefix).unwrap(), "-i veth+");
}
