use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::archive::{files, gzip};
use super::*;

/// A time after 1970.
const TIME: u64 = 951_827_696;

/// A tree like that of an image; `other` makes the same in another order and with other rights and times.
fn tree(other: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut names = ["b/program", "a.txt", "b/c/data"];
    if other {
        names.reverse();
    }
    for name in names {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), name.repeat(100)).unwrap();
    }
    let mode = |name: &str, mode| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("b/program", if other { 0o700 } else { 0o755 });
    mode("a.txt", if other { 0o600 } else { 0o664 });
    symlink("program", root.join("b/link")).unwrap();
    directory
}

fn archive_of(root: &Path) -> Vec<u8> {
    let mut archive = Archive::new(TIME);
    archive.add_tree(root).unwrap();
    archive.finish()
}

/// Runs a program, which has to succeed, and returns what it printed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_layer_depends_on_names_and_contents_alone() {
    let (one, other) = (tree(false), tree(true));
    let layer = archive_of(one.path());
    assert_eq!(layer, archive_of(other.path()));
    assert_eq!(gzip(&layer).unwrap(), gzip(&layer).unwrap());
    fs::write(other.path().join("a.txt"), "else").unwrap();
    assert_ne!(layer, archive_of(other.path()));
}

#[test]
fn other_programs_read_a_layer() {
    let (source, place) = (tree(false), tempfile::tempdir().unwrap());
    let path = place.path().join("layer.tar.gz");
    let layer = archive_of(source.path());
    fs::write(&path, gzip(&layer).unwrap()).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--list", "--verbose", "--numeric-owner", "--utc", "--full-time", "-zf"]).arg(&path);
    let listed = output(&mut tar);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = listed.lines().map(words).collect();
    let expected = [
        "-rw-r--r-- 0/0 500 2000-02-29 12:34:56 a.txt",
        "drwxr-xr-x 0/0 0 2000-02-29 12:34:56 b/",
        "drwxr-xr-x 0/0 0 2000-02-29 12:34:56 b/c/",
        "-rw-r--r-- 0/0 800 2000-02-29 12:34:56 b/c/data",
        "lrwxrwxrwx 0/0 0 2000-02-29 12:34:56 b/link -> program",
        "-rwxr-xr-x 0/0 900 2000-02-29 12:34:56 b/program",
    ];
    assert_eq!(lines, expected.map(words));
    output(Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(place.path()));
    assert_eq!(fs::read(place.path().join("b/link")).unwrap(), b"b/program".repeat(100));
    let own: Vec<_> = files(&layer).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(own, ["a.txt", "b/c/data", "b/program"]);
}

#[test]
fn what_does_not_fit_into_an_archive_is_refused() {
    let mut archive = Archive::new(TIME);
    let error = archive.add(&"n".repeat(100), &Entry::Directory).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert!(files(b"").is_err());
    assert!(files(&[1; 512]).is_err());
}

fn image(layers: Vec<(&'static str, Vec<u8>)>) -> Vec<u8> {
    let image = layout::Image { version: "1.2.3", architecture: "amd64", time: TIME, layers };
    layout::archive(&image).unwrap()
}

#[test]
fn a_layout_fits_together() {
    let (one, other) = (archive_of(tree(false).path()), Archive::new(TIME).finish());
    let layers = vec![("one", one.clone()), ("other", other.clone())];
    let archive = image(layers.clone());
    assert_eq!(archive, image(layers));
    assert_eq!(layout::check(&archive).unwrap(), [one, other]);
}

/// Each byte of each file counts: digests cover the blobs, and the blobs are named by digests.
#[test]
fn damage_to_a_layout_is_found() {
    let archive = image(vec![("one", archive_of(tree(false).path()))]);
    let all = files(&archive).unwrap();
    assert_eq!(all.len(), 5, "layout, index, manifest, configuration and one layer");
    let mut places = 0;
    for (name, content) in all {
        let start = content.as_ptr() as usize - archive.as_ptr() as usize;
        // The index has no digest of its own: of what it says, the digest of the manifest can be compared.
        let range = if name == "index.json" {
            let digest = String::from_utf8_lossy(content).find("sha256:").unwrap();
            digest..digest + 70
        } else {
            0..content.len()
        };
        let step = range.len() / 7 + 1;
        for place in range.step_by(step) {
            let mut damaged = archive.clone();
            damaged[start + place] ^= 4;
            assert!(layout::check(&damaged).is_err(), "byte {place} of {name}");
            places += 1;
        }
    }
    assert!(places > 25, "{places}");
}

/// The layers of a whole image, one above the other, are a system that runs.
#[test]
fn the_layers_of_an_image_run() {
    let parts = tempfile::tempdir().unwrap();
    let (root, unpacked) = (parts.path().join("root"), parts.path().join("unpacked"));
    image::assemble_base(&root, System::Here).unwrap();
    let mut own = Archive::new(TIME);
    own.add("usr/local/bin/kube-proxy", &Entry::File(b"program".to_vec(), true)).unwrap();
    let archive = image(vec![("base", archive_of(&root)), ("own", own.finish())]);
    fs::create_dir(&unpacked).unwrap();
    for layer in layout::check(&archive).unwrap() {
        let path = parts.path().join("layer.tar");
        fs::write(&path, layer).unwrap();
        output(Command::new("tar").arg("-xf").arg(path).arg("-C").arg(&unpacked));
    }
    assert_eq!(fs::read(unpacked.join("usr/local/bin/kube-proxy")).unwrap(), b"program");
    for program in ["iptables-legacy", "ip6tables-nft-restore"] {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(format!("--root={}", unpacked.display()));
        let version = output(command.args([&format!("/usr/sbin/{program}"), "--version"]));
        assert!(version.contains("tables"), "{version}");
    }
    if !host::is_on_path("dpkg-query") {
        return;
    }
    let packages = packages::of_files(&root, None).unwrap();
    for name in ["iptables", "kmod", "libc6"] {
        let found = packages.iter().find(|package| package.name == name);
        let purl = &found.unwrap_or_else(|| panic!("{name} of {packages:?}")).purl;
        assert!(purl.starts_with(&format!("pkg:deb/debian/{name}@")), "{purl}");
    }
}

/// Every crate whose sources a program names is in the list. This program has the features that all of the workspace asks for.
#[test]
fn the_list_of_parts_has_what_is_in_the_program() {
    let triple = workspace::host_triple().unwrap();
    let listed = sbom::crates(&workspace::root(), &["--workspace"], &triple).unwrap();
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(sbom::lacking(&listed, &program), BTreeSet::new());
    let without: Vec<_> = listed.into_iter().filter(|part| part.name != "clap_builder").collect();
    let lacking = sbom::lacking(&without, &program);
    let names: Vec<_> = lacking.iter().filter_map(|name| name.rsplit_once('-')).collect();
    assert!(matches!(names.as_slice(), [("clap_builder", _)]), "{names:?}");
    assert!(sbom::lacking(&[], &program).len() > 20);
    // Constants of a program follow each other without a gap; this one must not be a constant of this program.
    let registry = ["/registry", "/src/"].concat();
    let paths = ["usr-bincannot ", "x-1/memchr-2.8.3/src/lib.rs ", "x-1/rc-0.1.0-rc.2/"];
    let text: String = paths.iter().map(|path| [&registry, *path].concat()).collect();
    let expected = ["memchr-2.8.3", "rc-0.1.0-rc.2"].map(str::to_owned);
    assert_eq!(sbom::lacking(&[], text.as_bytes()), BTreeSet::from(expected));
}

#[test]
fn the_list_of_parts_says_what_each_is() {
    let triple = workspace::host_triple().unwrap();
    let parts = sbom::crates(&workspace::root(), &["--package", "kube-proxy"], &triple).unwrap();
    let named = |name: &str| parts.iter().filter(|part| part.name == name).count();
    for name in ["tokio", "rustls", "aws-lc-sys", "kube-proxy-core"] {
        assert_eq!(named(name), 1, "{name}");
    }
    // For tests, for macros and for build scripts alone.
    for name in ["proptest", "kube-proxy-testkit", "syn", "async-trait", "cc"] {
        assert_eq!(named(name), 0, "{name}");
    }
    for part in &parts {
        let is_own = part.name.starts_with("kube-proxy");
        assert_eq!(part.sum.is_some(), !is_own, "{part:?}");
        assert!(part.licence.is_some(), "{part:?}");
    }
    let document = sbom::document("1.2.3", TIME, &parts).unwrap();
    assert_eq!(document, sbom::document("1.2.3", TIME, &parts).unwrap());
    let value: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(value["metadata"]["timestamp"], "2000-02-29T12:34:56Z");
    assert_eq!(value["components"].as_array().unwrap().len(), parts.len());
    let references: BTreeSet<_> = parts.iter().map(|part| &part.purl).collect();
    assert_eq!(references.len(), parts.len(), "each has a name of its own");
}

#[test]
fn times_are_those_of_the_calendar() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (TIME, "2000-02-29T12:34:56Z"),
        (978_307_199, "2000-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(sbom::timestamp(seconds).unwrap(), text);
    }
}

#[test]
fn checksums_are_those_of_sha256sum() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["b", "a"] {
        fs::write(directory.path().join(name), name).unwrap();
    }
    assert_eq!(sums::write(directory.path(), SUMS).unwrap(), ["a", "b"]);
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--strict", SUMS]).current_dir(directory.path()).output().unwrap()
    };
    assert!(check().status.success(), "{:?}", check());
    fs::write(directory.path().join("a"), "else").unwrap();
    assert!(!check().status.success());
}

#[test]
fn files_that_differ_are_named() {
    let (one, other) = (tree(false), tree(true));
    let in_b = |directory: &tempfile::TempDir| directory.path().join("b/c");
    assert!(twice::differences(&in_b(&one), &in_b(&other)).unwrap().is_empty());
    fs::write(in_b(&one).join("data"), "else").unwrap();
    fs::write(in_b(&other).join("new"), "").unwrap();
    assert_eq!(twice::differences(&in_b(&one), &in_b(&other)).unwrap(), ["new", "data"]);
}

#[test]
fn a_program_with_libraries_is_not_released() {
    let error = build::check_static(&std::env::current_exe().unwrap()).unwrap_err();
    assert!(error.to_string().contains("is not static"), "{error}");
}

#[test]
fn only_a_directory_of_ours_is_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("precious");
    fs::write(&file, "").unwrap();
    let error = begin(directory.path()).unwrap_err();
    assert!(error.to_string().contains("is not emptied"), "{error}");
    fs::write(directory.path().join(SUMS), "").unwrap();
    begin(directory.path()).unwrap();
    assert!(!file.exists() && directory.path().exists());
    // A run that was cut off is no reason to stop either.
    begin(directory.path()).unwrap();
}

/// Whatever can be missing, commands that get it are named.
#[test]
fn what_cannot_be_made_here_is_said() {
    for platform in &platform::ALL {
        assert_eq!(Platform::named(platform.triple).unwrap(), platform);
        let reason = platform.missing(false).unwrap();
        let rustup = format!("rustup target add {}", platform.triple);
        assert!(reason.contains(&rustup), "{reason}");
        let lacking = host::missing(&platform.needed()).1;
        let all = format!("apt-get install {}", lacking.join(" "));
        assert!(lacking.is_empty() || reason.ends_with(&all), "{reason}");
        let foreign = lacking.iter().any(|package| package.contains(':'));
        assert_eq!(reason.contains("dpkg --add-architecture"), foreign, "{reason}");
        assert_eq!(platform.missing(true).is_none(), lacking.is_empty(), "{platform:?}");
    }
    let error = Platform::named("riscv64gc-unknown-linux-gnu").unwrap_err().to_string();
    assert!(error.contains("aarch64-unknown-linux-musl"), "{error}");
}

#[test]
fn a_compiler_is_known_by_its_standard_library() {
    let own = workspace::host_triple().unwrap();
    assert!(Compiler::Usual.is_for(&own).unwrap());
    assert!(!Compiler::Usual.is_for("no-such-target").unwrap());
    assert!(Compiler::Usual.version().unwrap().starts_with("rustc "));
    let lost = Compiler::Other("/no/such/rustc".into());
    assert!(lost.version().is_err() && lost.is_for(&own).is_err());
}

/// Programs of other machines are run by an emulator, and made by other tools.
#[test]
fn each_platform_has_its_tools() {
    for platform in &platform::ALL {
        let is_own = platform.triple.starts_with(std::env::consts::ARCH);
        assert_eq!(platform.is_own_machine(), is_own);
        assert_eq!(platform.emulator().is_none(), is_own, "{platform:?}");
        let tools = platform.needed().into_iter().map(|(tool, _)| tool);
        let named: BTreeSet<_> = tools.collect();
        assert!(named.contains(platform.linker()), "{platform:?}");
        assert_eq!(platform.objcopy() == image::OBJCOPY, is_own, "{platform:?}");
        assert_eq!(platform.has_image(), platform.triple.ends_with("-gnu"));
    }
}

/// A program that does not do what it should is not released.
#[test]
fn a_program_is_run_before_it_is_released() {
    let own = platform::ALL.iter().find(|platform| platform.is_own_machine());
    let Some(own) = own else { return };
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("kube-proxy");
    let text = directory.path().join("text");
    let says = |script: &str| {
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Not written by this process: a file that a child of another test has open for writing does not start.
        output(Command::new("install").arg("--mode=755").args([&text, &program]));
        trial::program(own, &program, "1.2.3").map_err(|error| error.to_string())
    };
    let version = r#"[ "$1" = --version ] && echo kube-proxy 1.2.3 for Kubernetes && exit"#;
    assert!(says("exit 3").unwrap_err().contains("failed"));
    assert!(says("echo kube-proxy 1.2.4 for Kubernetes").unwrap_err().contains("1.2.4"));
    assert!(says(version).unwrap_err().contains("failed"));
    let nowhere = format!("{version}\necho is dropped");
    assert!(says(&nowhere).unwrap_err().contains("is dropped"));
    says(&format!("{version}\necho goes to endpoint 10.244.1.5:8080")).unwrap();
}
