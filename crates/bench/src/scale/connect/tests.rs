use super::endpoint_in;

#[test]
fn the_endpoint_is_read_from_the_greeting() {
    let greeting = "pod=all local=10.128.0.9:8080 peer=10.244.0.3:40000\n";
    assert_eq!(endpoint_in(greeting), "10.128.0.9".parse().ok());
    assert_eq!(endpoint_in("pod=all"), None);
}
