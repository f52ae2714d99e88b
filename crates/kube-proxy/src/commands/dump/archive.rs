//! A tar archive of plain files (POSIX ustar).

use std::time::SystemTime;

/// Headers and contents come in blocks of this size.
const BLOCK: usize = 512;

/// An archive, being made.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    /// Adds a file that its owner may read. Names are short and of ASCII.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        let mut header = [0_u8; BLOCK];
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Name, mode, owner, group, size, time, and the type of a plain file.
        put(&mut header, 0, name.as_bytes(), 100);
        put(&mut header, 100, b"0000600\0", 8);
        put(&mut header, 108, b"0000000\0", 8);
        put(&mut header, 116, b"0000000\0", 8);
        put(&mut header, 124, format!("{:011o}\0", content.len()).as_bytes(), 12);
        put(&mut header, 136, format!("{:011o}\0", now.as_secs()).as_bytes(), 12);
        put(&mut header, 156, b"0", 1);
        put(&mut header, 257, b"ustar\0", 6);
        put(&mut header, 263, b"00", 2);
        // The sum is made with blanks in its own place.
        put(&mut header, 148, b"        ", 8);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes(), 8);
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The whole, with the two empty blocks at its end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, value: &[u8], most: usize) {
    for (place, byte) in header.iter_mut().skip(at).take(most).zip(value) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        archive.add("dump/one.txt", b"first\n");
        archive.add("dump/empty.txt", b"");
        archive.add("dump/large.bin", &[7; 5000]);
        let path = directory.path().join("dump.tar");
        std::fs::write(&path, archive.finish()).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&path).arg("-C").arg(directory.path());
        assert!(tar.status().unwrap().success());
        let read = |name: &str| std::fs::read(directory.path().join("dump").join(name)).unwrap();
        assert_eq!(read("one.txt"), b"first\n");
        assert_eq!(read("empty.txt"), b"");
        assert_eq!(read("large.bin"), [7; 5000]);
    }
}
