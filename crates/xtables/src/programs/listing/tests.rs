use proptest::prelude::*;

use super::*;

fn listed(text: &str) -> (Vec<String>, End) {
    let mut listing = Listing::of("nat");
    let mut lines = Vec::new();
    for line in text.lines() {
        listing.take(line, &mut |line| lines.push(line.to_owned()));
    }
    (lines, listing.end())
}

#[test]
fn a_whole_table_is_told_from_a_part_and_from_nothing() {
    let whole = "# Generated\n*nat\n:A - [0:0]\n-A A -j B\nCOMMIT\n# Completed\n";
    assert_eq!(listed(whole), (vec![":A - [0:0]".to_owned(), "-A A -j B".to_owned()], End::Whole));
    let cut = "*nat\n:A - [0:0]\n-A A -j";
    assert_eq!(listed(cut).1, End::Part);
    assert_eq!(listed("*nat\n-A A --comment \"x\nCOMMIT\n").1, End::Part);
    assert_eq!(
        listed("*filter\n:A - [0:0]\nCOMMIT\n"),
        (vec![], End::Nothing("no such table".to_owned()))
    );
    assert_eq!(listed("").1, End::Nothing("no such table".to_owned()));
    // What other versions print.
    let remark = "Table `nat' is incompatible, use 'nft' tool.";
    assert_eq!(listed(&format!("# {remark}\n")).1, End::Nothing(remark.to_owned()));
    let remark = "Table `nat' contains incompatible base-chains, use 'nft' tool to list them.";
    let (lines, end) = listed(&format!("# {remark}\n*nat\n:A - [0:0]\nCOMMIT\n"));
    assert_eq!((lines, end), (vec![], End::Nothing(remark.to_owned())));
    // Warnings are none of its business.
    let warned = "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n*nat\nCOMMIT\n";
    assert_eq!(listed(warned).1, End::Whole);
}

#[test]
fn a_comment_with_line_breaks_is_one_rule() {
    let rule = "-A MINE -m comment --comment \"x\nCOMMIT\n-A KUBE-SERVICES -j \\\"\n:KUBE-SVC-A - [0:0]\" -j B";
    let (lines, end) = listed(&format!("*nat\n{rule}\n-A MINE -j C\nCOMMIT\n"));
    assert_eq!((lines, end), (vec![rule.to_owned(), "-A MINE -j C".to_owned()], End::Whole));
}

proptest! {
    /// Whatever a program prints, and wherever it is cut, nothing panics and a part is not taken for the whole.
    #[test]
    fn no_output_is_too_odd(text in r#"([*:#\-A nat"\\COMMIT\[\]0-9]|\PC|\n){0,200}"#) {
        let whole = text.lines().any(|line| line == "*nat") && text.lines().any(|line| line == "COMMIT");
        let (_, end) = listed(&text);
        prop_assert!(whole || end != End::Whole);
    }
}
