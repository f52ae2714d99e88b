//! Archives (POSIX ustar) that depend on nothing but names, contents and which files may be executed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use flate2::{Compression, GzBuilder};

/// Headers and contents come in blocks of this size.
const BLOCK: usize = 512;
/// Longest name in a header; all of ours are shorter.
const LONGEST_NAME: usize = 100;

/// What an archive holds under a name.
#[derive(Debug)]
pub(super) enum Entry {
    /// A file, and whether it may be executed.
    File(Vec<u8>, bool),
    /// A link to another name.
    Link(String),
    Directory,
}

impl Entry {
    /// What is at a path.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let metadata = fs::symlink_metadata(path).with_context(name)?;
        if metadata.is_symlink() {
            let to = fs::read_link(path).with_context(name)?;
            return Ok(Self::Link(to.into_os_string().into_string().ok().with_context(name)?));
        }
        if metadata.is_dir() {
            return Ok(Self::Directory);
        }
        ensure!(metadata.is_file(), "{} is neither a file nor a link nor a directory", name());
        let executable = metadata.permissions().mode() & 0o111 != 0;
        Ok(Self::File(fs::read(path).with_context(name)?, executable))
    }
}

/// An archive, being made.
#[derive(Debug)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    time: u64,
}

impl Archive {
    /// An empty one, whose entries are all of this time.
    pub(super) fn new(time: u64) -> Self {
        Self { bytes: Vec::new(), time }
    }

    /// Adds everything below a directory, in the order of names.
    pub(super) fn add_tree(&mut self, root: &Path) -> anyhow::Result<()> {
        self.add_below(root, "")
    }

    fn add_below(&mut self, directory: &Path, prefix: &str) -> anyhow::Result<()> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        let mut paths =
            entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("{} is no text", path.display()))?;
            let (name, entry) = (format!("{prefix}{name}"), Entry::read(&path)?);
            self.add(&name, &entry)?;
            if matches!(entry, Entry::Directory) {
                self.add_below(&path, &format!("{name}/"))?;
            }
        }
        Ok(())
    }

    /// Adds one entry. All of them belong to root.
    pub(super) fn add(&mut self, name: &str, entry: &Entry) -> anyhow::Result<()> {
        let (kind, mode, content, link) = match entry {
            Entry::File(content, true) => (b'0', 0o755, content.as_slice(), ""),
            Entry::File(content, false) => (b'0', 0o644, content.as_slice(), ""),
            Entry::Link(to) => (b'2', 0o777, &[][..], to.as_str()),
            Entry::Directory => (b'5', 0o755, &[][..], ""),
        };
        let name = if kind == b'5' { format!("{name}/") } else { name.to_owned() };
        for text in [&name, link] {
            ensure!(text.len() < LONGEST_NAME, "{text:?} is too long for an archive");
        }
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, value: &[u8]| {
            header[at..at + value.len()].copy_from_slice(value);
        };
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        // Owner and group are numbers alone: names would be looked up where it is unpacked.
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", self.time).as_bytes());
        // The sum is made with blanks in its own place.
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// The whole, with the two empty blocks at its end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

/// Compresses; the head names neither a file nor a time nor a system.
pub(super) fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// The files of an archive of ours: names and contents.
pub(super) fn files(bytes: &[u8]) -> anyhow::Result<Vec<(String, &[u8])>> {
    let mut files = Vec::new();
    let mut rest = bytes;
    loop {
        let (header, after) = rest.split_at_checked(BLOCK).context("a header that is cut off")?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(files);
        }
        let text = |from: usize, most: usize| {
            let field = header[from..from + most].split(|byte| *byte == 0).next();
            String::from_utf8_lossy(field.unwrap_or_default()).into_owned()
        };
        if &header[257..262] != b"ustar" {
            bail!("{:?} has no header of ustar", text(0, LONGEST_NAME));
        }
        let size = usize::from_str_radix(&text(124, 12), 8).context("a size")?;
        let content = after.get(..size).context("a file that is cut off")?;
        if header[156] == b'0' {
            files.push((text(0, LONGEST_NAME), content));
        }
        rest = after.get(size.next_multiple_of(BLOCK)..).context("a file that is cut off")?;
    }
}
