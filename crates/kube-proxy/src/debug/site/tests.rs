use super::{POLICY, page};

const FILES: [&str; 7] = [
    "/explain",
    "/explain/page.css",
    "/explain/page.js",
    "/explain/ask.js",
    "/explain/dom.js",
    "/explain/services.js",
    "/explain/answers.js",
];

fn text(path: &str) -> String {
    String::from_utf8(page(path).unwrap().body.to_vec()).unwrap()
}

#[test]
fn every_file_has_the_policy() {
    for path in FILES {
        let answer = page(path).unwrap();
        let policy = answer.headers.iter().find(|(name, _)| name == "content-security-policy");
        assert_eq!(policy.unwrap().1, POLICY, "{path}");
    }
    assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("http"));
    assert_eq!(page("/explain/other"), None);
}

#[test]
fn nothing_comes_from_elsewhere_and_nothing_reads_markup() {
    let strange = [
        "http:",
        "https:",
        "\"//",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "style=",
    ];
    for path in FILES {
        let text = text(path);
        for word in strange {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
    // Addresses are relative, for a proxy in front that has this page below a path of its own.
    assert!(!text("/explain").contains("=\"/"));
    for path in FILES {
        for call in ["ask(\"/", "text(\"/", "fetch(\"/", "from \"/"] {
            assert!(!text(path).contains(call), "{path} has {call}");
        }
    }
    // The policy forbids scripts in the document.
    assert!(
        !text("/explain").contains("onload") && text("/explain").matches("<script").count() == 1
    );
}

#[test]
fn every_file_that_is_named_is_there() {
    let named = |path: &str, quote: &str| {
        let text = text(path);
        let parts: Vec<_> = text
            .split(quote)
            .skip(1)
            .map(|part| part.split('"').next().unwrap().to_owned())
            .collect();
        parts
    };
    for file in named("/explain", "\"explain/") {
        assert!(page(&format!("/explain/{file}")).is_some(), "{file}");
    }
    for path in FILES {
        for file in named(path, "from \"./") {
            assert!(page(&format!("/explain/{file}")).is_some(), "{path} imports {file}");
        }
    }
}
