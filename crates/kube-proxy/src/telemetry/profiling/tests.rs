use std::time::{Duration, SystemTime};

use expect_test::expect;

use super::proto::{Call, Profile};
use super::{cpu, memory};

/// Reads messages back: `field:value`, nested messages in braces where `nested` says so.
fn decode(mut bytes: &[u8], nested: &dyn Fn(u64) -> bool) -> String {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = key >> 3;
        let value = varint(&mut bytes);
        match key & 7 {
            0 => parts.push(format!("{field}:{value}")),
            2 => {
                let (content, rest) = bytes.split_at(usize::try_from(value).unwrap());
                bytes = rest;
                parts.push(if nested(field) {
                    format!("{field}:{{{}}}", decode(content, &|_| true))
                } else {
                    format!("{field}:{:?}", String::from_utf8_lossy(content))
                });
            }
            other => panic!("wire type {other}"),
        }
    }
    parts.join(" ")
}

/// A whole profile, a field a line.
fn text(profile: &[u8]) -> String {
    // Field 6 is the table of strings.
    decode(profile, &|field| field != 6).replace("} ", "}\n").replace("\" ", "\"\n")
}

fn call(function: &str, line: u32) -> Call {
    Call { function: function.to_owned(), file: "a.rs".to_owned(), line }
}

#[test]
fn a_profile_is_what_the_protocol_says() {
    let mut profile = Profile::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    profile.sample(&[call("inner", 300), call("outer", 1)], &[2, 20], &[("thread", "main")]);
    profile.sample(&[call("outer", 1)], &[1, 10], &[]);
    let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
    let bytes = profile.finish(Some((("cpu", "nanoseconds"), 10)), start, Duration::from_nanos(7));
    expect![[r#"
        1:{1:1 2:2}
        1:{1:3 2:4}
        2:{1:1 1:2 2:2 2:20 3:{1:8 2:9}}
        2:{1:2 2:1 2:10}
        4:{1:1 4:{1:1 2:300}}
        4:{1:2 4:{1:2 2:1}}
        5:{1:1 2:5 3:5 4:6}
        5:{1:2 2:7 3:7 4:6}
        6:""
        6:"samples"
        6:"count"
        6:"cpu"
        6:"nanoseconds"
        6:"inner"
        6:"a.rs"
        6:"outer"
        6:"thread"
        6:"main"
        9:5 10:7 11:{1:3 2:4}
        12:10"#]]
    .assert_eq(&text(&bytes));
}

const SMAPS: &str = "\
55d0-55d1 r-xp 00000000 00:1f 42 /usr/bin/kube proxy
Size:                  8 kB
Rss:                   4 kB
Private_Dirty:         0 kB
VmFlags: rd ex mr
55d2-55d3 rw-p 00000000 00:00 0 [heap]
Size:                 16 kB
Rss:                  12 kB
Private_Dirty:        12 kB
7f00-7f01 rw-p 00000000 00:00 0
Size:                  4 kB
Rss:                   4 kB
Private_Dirty:         4 kB
7f02-7f03 rw-p 00000000 00:00 0
Size:                  4 kB
Rss:                   0 kB
Private_Dirty:         0 kB
";

#[test]
fn memory_is_added_up_by_name() {
    expect![[r#"
        resident      private_dirty       mapped mapping
        12288                 12288        16384 [heap]
        4096                      0         8192 /usr/bin/kube proxy
        4096                   4096         8192 [anonymous]
    "#]]
    .assert_eq(&memory::text(SMAPS));
    let profile = text(&memory::profile(SMAPS));
    assert!(profile.contains("2:{1:2 2:8192 2:4096 2:4096}"), "{profile}");
    assert!(profile.contains("6:\"[anonymous]\""), "{profile}");
    assert!(super::memory_text().unwrap().lines().count() > 2, "that of this process");
}

#[test]
fn a_busy_thread_shows_in_the_cpu_profile() {
    let busy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let going = busy.clone();
    let thread = std::thread::spawn(move || {
        while going.load(std::sync::atomic::Ordering::Relaxed) {
            spin_for_the_profile();
        }
    });
    let found = (0..50).any(|_| {
        let profile = text(&cpu::take(Duration::from_millis(300)).unwrap());
        profile.contains("spin_for_the_profile")
    });
    busy.store(false, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
    assert!(found, "no sample of the busy function");
}

#[inline(never)]
fn spin_for_the_profile() {
    let mut sum = 0_u64;
    for number in 0..10_000_u64 {
        sum = std::hint::black_box(sum.wrapping_mul(31) ^ number);
    }
}
