use super::profile;

fn profile_of(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    profile(&words).to_owned()
}

#[test]
fn the_profile_is_read_wherever_it_stands() {
    assert_eq!(profile_of("scale --services 5"), "release");
    assert_eq!(profile_of("scale --profile dev --services 5"), "dev");
    assert_eq!(profile_of("--profile=quick-release userspace"), "quick-release");
    assert_eq!(profile_of("scale --profile"), "release");
    assert_eq!(profile_of("scale --help"), "dev");
    assert_eq!(profile_of(""), "dev");
}
