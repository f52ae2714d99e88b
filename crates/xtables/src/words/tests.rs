use super::*;

#[test]
fn words_of_a_rule() {
    let words =
        split_words("-A X  -m comment --comment \"a \\\"b\\\" -j c\" ! -s 1.2.3.4/32 \"\" -j Y");
    let expected = [
        "-A",
        "X",
        "-m",
        "comment",
        "--comment",
        "a \"b\" -j c",
        "!",
        "-s",
        "1.2.3.4/32",
        "",
        "-j",
        "Y",
    ];
    assert_eq!(words, expected);
    assert_eq!(split_words("  "), Vec::<String>::new());
    assert_eq!(split_words("open \"end"), ["open", "end"]);
}

#[test]
fn comments_cannot_end_early() {
    assert_eq!(comment_words("a\"b\\c\nd\te'fä"), "-m comment --comment \"a_b_c_d_e_f_\"");
}

#[test]
fn comments_are_cut_to_what_the_kernel_keeps() {
    let long = "x".repeat(200);
    let words = comment_words(format_args!("{long}{long}"));
    assert_eq!(words.matches('x').count(), 255);
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
