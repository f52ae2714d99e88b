use super::{Style, Table};

#[test]
fn columns_line_up_and_the_widest_is_cut() {
    let mut table = Table::new(&["NAME", "ADDRESSES"]);
    table.row(["web".to_owned(), "10.96.0.1:80/tcp 10.96.0.2:80/tcp".to_owned()]);
    table.row(["a-longer-name".to_owned(), "-".to_owned()]);
    let whole = table.render(Style::plain(), None);
    assert_eq!(
        whole,
        "NAME           ADDRESSES\nweb            10.96.0.1:80/tcp 10.96.0.2:80/tcp\na-longer-name  -\n"
    );
    let cut = table.render(Style::plain(), Some(30));
    assert!(cut.lines().all(|line| line.chars().count() <= 30), "{cut}");
    assert!(cut.contains("web            10.96.0.1:80/t…"), "{cut}");
}
