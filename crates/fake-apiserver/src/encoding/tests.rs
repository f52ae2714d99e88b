use hyper::header::HeaderValue;

use super::*;

fn negotiate(accept: &str, kind: &str, server: Negotiation) -> Result<Encoding, u16> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
    Encoding::negotiate(&headers, TypeId::by_name(kind), server).map_err(|error| error.code)
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[test]
fn the_first_that_fits_is_chosen() {
    let faults = Negotiation::default();
    let chosen = |accept: &str, kind: &str| negotiate(accept, kind, faults).map(|e| e.format);
    assert_eq!(chosen("", "services"), Ok(Format::Json));
    assert_eq!(chosen("*/*", "services"), Ok(Format::Json));
    assert_eq!(chosen(PROTOBUF, "services"), Ok(Format::Protobuf));
    let both = format!("{PROTOBUF}, application/json");
    assert_eq!(chosen(&both, "services"), Ok(Format::Protobuf));
    assert_eq!(chosen(&both, "configmaps"), Ok(Format::Json), "not every kind is there");
    assert_eq!(chosen(&format!("application/json,{PROTOBUF}"), "nodes"), Ok(Format::Json));
    let weighed = format!("application/json;q=0.5,{PROTOBUF};q=0.9,text/html");
    assert_eq!(chosen(&weighed, "nodes"), Ok(Format::Protobuf));
    assert_eq!(chosen("application/json;q=0", "nodes"), Err(406));
    assert_eq!(chosen(PROTOBUF, "configmaps"), Err(406));
    assert_eq!(chosen("text/html", "services"), Err(406));
}

#[test]
fn parameters_are_ignored_unless_the_server_knows_them() {
    let accept = format!("{PROTOBUF};drop=metadata.managedFields");
    let full = Encoding { format: Format::Protobuf, drop: false };
    assert_eq!(negotiate(&accept, "services", Negotiation::default()), Ok(full));
    let new = Negotiation { drops: true, ..Negotiation::default() };
    assert_eq!(negotiate(&accept, "services", new), Ok(Encoding { drop: true, ..full }));
    assert_eq!(negotiate(PROTOBUF, "services", new), Ok(full));
    let strict = Negotiation { strict: true, ..Negotiation::default() };
    assert_eq!(negotiate(&accept, "services", strict), Err(406));
    assert_eq!(negotiate(&format!("{PROTOBUF};q=0.9"), "services", strict), Ok(full));
    let old = Negotiation { json_only: true, ..Negotiation::default() };
    assert_eq!(negotiate(&accept, "services", old), Err(406));
    let both = format!("{PROTOBUF},application/json");
    assert_eq!(negotiate(&both, "services", old), Ok(Encoding::default()));
}
