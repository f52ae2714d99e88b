//! Requests that fail, and how the error reads.

use kube_proxy_netlink::batch::Batch;
use kube_proxy_netlink::netfilter::{self, subsystem};
use kube_proxy_netlink::socket::{Protocol, Request, Socket};
use kube_proxy_netlink::{Described, Errno, Error};

use crate::{Test, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("socket::kernel_text_is_in_the_error", kernel_text_is_in_the_error),
        ("socket::usable_after_errors", usable_after_errors),
        ("batch::applies_all_messages", applies_all_messages),
        ("batch::refused_message_is_named_and_nothing_applied", refused_message_is_named),
        ("batch::large_batch_fits", large_batch_fits),
        ("batch::old_generation_is_refused", old_generation_is_refused),
    ]
}

fn netfilter_socket() -> Socket {
    Socket::open(Protocol::Netfilter).expect("netfilter socket")
}

/// A dump of conntrack with a `CTA_MARK` that is too short.
fn bad_dump(socket: &mut Socket) -> Error {
    let request = Request {
        kind: netfilter::kind(subsystem::CONNTRACK, 1),
        flags: 0,
        object: &"list flows with a bad mark",
    };
    socket
        .dump(
            request,
            |writer| {
                netfilter::header(writer, 2, 0);
                writer.u8(8, 1);
            },
            |_| Ok(()),
        )
        .expect_err("bad mark")
}

fn kernel_text_is_in_the_error() {
    let error = bad_dump(&mut netfilter_socket());
    let refusal = error.refusals().next().expect("a refusal").clone();
    let text = refusal.message.unwrap_or_else(|| panic!("no text of the kernel: {error:?}"));
    assert!(!text.is_empty());
    let shown = error.to_string();
    assert!(shown.starts_with("list flows with a bad mark: the kernel refused: "), "{shown}");
    assert!(shown.contains(&text), "{shown}");
    // Behind the message header of 16 bytes and the netfilter header of 4 is the attribute that the kernel points at.
    assert_eq!(refusal.offset, Some(20), "{shown}");
}

fn usable_after_errors() {
    let mut socket = netfilter_socket();
    for _ in 0..3 {
        bad_dump(&mut socket);
        let request = Request {
            kind: netfilter::kind(subsystem::CONNTRACK, 5),
            flags: 0,
            object: &"conntrack statistics",
        };
        let mut answers = 0;
        socket
            .request(
                request,
                |writer| netfilter::header(writer, 0, 0),
                |_| {
                    answers += 1;
                    Ok(())
                },
            )
            .expect("statistics");
        assert_eq!(answers, 1);
    }
}

const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const TABLE_NAME: u16 = 1;

fn add_table(batch: &mut Batch, operation: u8, name: &str) {
    batch
        .add(operation, 0, |writer| {
            netfilter::header(writer, 2, 0);
            writer.text(TABLE_NAME, name);
        })
        .expect("short name");
}

fn commit(socket: &mut Socket, batch: &mut Batch) -> Result<(), Error> {
    socket.commit(batch, &"test transaction", |message, _| {
        let attributes = message.attributes(netfilter::HEADER_LEN).expect("own message");
        let name = attributes.clone().find(TABLE_NAME).expect("own message").expect("a name");
        let object = format!("table {}", name.text());
        Described { object, target: None }
    })
}

fn tables() -> String {
    run("nft", &["list", "tables"])
}

fn applies_all_messages() {
    let mut socket = netfilter_socket();
    let mut batch = Batch::new(subsystem::NF_TABLES);
    commit(&mut socket, &mut batch).expect("an empty batch does nothing");
    add_table(&mut batch, NEW_TABLE, "first");
    add_table(&mut batch, NEW_TABLE, "second");
    commit(&mut socket, &mut batch).expect("commit");
    assert!(tables().contains("table ip first\n") && tables().contains("table ip second\n"));
    batch.clear(None);
    add_table(&mut batch, DELETE_TABLE, "first");
    add_table(&mut batch, DELETE_TABLE, "second");
    commit(&mut socket, &mut batch).expect("commit");
    assert!(!tables().contains("first") && !tables().contains("second"));
}

fn refused_message_is_named() {
    let mut socket = netfilter_socket();
    let mut batch = Batch::new(subsystem::NF_TABLES);
    add_table(&mut batch, NEW_TABLE, "kept-out");
    add_table(&mut batch, DELETE_TABLE, "missing-one");
    add_table(&mut batch, DELETE_TABLE, "missing-two");
    let error = commit(&mut socket, &mut batch).expect_err("missing tables");
    assert!(error.is_not_found(), "{error}");
    let objects: Vec<_> = error.refusals().map(|refusal| refusal.object.as_str()).collect();
    assert_eq!(objects, ["table missing-one", "table missing-two"]);
    assert!(error.to_string().ends_with("(and 1 more errors in this batch)"), "{error}");
    assert!(!tables().contains("kept-out"));
    // The same socket and the same buffer continue.
    batch.clear(None);
    add_table(&mut batch, NEW_TABLE, "later");
    add_table(&mut batch, DELETE_TABLE, "later");
    commit(&mut socket, &mut batch).expect("commit");
}

fn large_batch_fits() {
    let mut socket = netfilter_socket();
    let mut batch = Batch::new(subsystem::NF_TABLES);
    // Above any default limit on send buffers, in few objects: comments do not exist on tables here, so padding is user data.
    for index in 0..20_000 {
        batch
            .add(NEW_TABLE, 0, |writer| {
                netfilter::header(writer, 2, 0);
                writer.text(TABLE_NAME, "large");
                // NFTA_TABLE_USERDATA
                writer.bytes(6, &[0; 200]);
            })
            .unwrap_or_else(|e| panic!("message {index}: {e}"));
    }
    assert!(batch.size() > 4 << 20, "{}", batch.size());
    let result = commit(&mut socket, &mut batch);
    // Only real privilege goes beyond the system's limit; without, the error says what is wrong.
    let identity = std::fs::read_to_string("/proc/self/uid_map").expect("/proc is there");
    if identity.split_whitespace().last() == Some("4294967295") {
        result.expect("the send buffer grows");
    } else if let Err(error) = result {
        assert_eq!(error.errno(), Some(Errno::EMSGSIZE), "{error}");
        return;
    }
    batch.clear(None);
    add_table(&mut batch, DELETE_TABLE, "large");
    commit(&mut socket, &mut batch).expect("commit");
}

fn old_generation_is_refused() {
    let mut socket = netfilter_socket();
    let mut batch = Batch::new(subsystem::NF_TABLES);
    // The generation counts up from 1 with every transaction; this one is far off.
    batch.clear(Some(u32::MAX - 7));
    add_table(&mut batch, NEW_TABLE, "stale");
    let error = commit(&mut socket, &mut batch).expect_err("old generation");
    assert!(error.is_stale(), "{error}");
    assert!(error.to_string().starts_with("test transaction: "), "{error}");
    assert!(!tables().contains("stale"));
}
