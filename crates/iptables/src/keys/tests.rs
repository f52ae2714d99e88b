use super::*;

#[test]
fn keys_lead_back_to_what_they_were_made_of() {
    for ip in ["0.0.0.0", "10.96.0.1", "255.255.255.255", "::", "fd00:10:96::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(address(IpFamily::of(&ip), address_bits(ip)), ip);
    }
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        for port in [1, 30000, u16::MAX] {
            assert_eq!(protocol_and_port(port_bits(protocol, port)), (protocol, port));
        }
    }
}
