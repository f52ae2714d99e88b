//! All files of the workspace that people write, with their texts.

use std::fs;
use std::path::Path;

/// A file that was written by a person.
pub(crate) struct File {
    /// Path below the root of the workspace, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether this is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    /// Whether this is Markdown.
    pub(crate) fn is_markdown(&self) -> bool {
        self.has_extension("md")
    }

    fn has_extension(&self, wanted: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == wanted)
    }
}

/// Everything but build directories, generated files and what is not text.
pub(crate) fn all() -> Vec<File> {
    let mut files = Vec::new();
    collect(&super::root(), "", &mut files);
    assert!(
        files.iter().any(|file| file.path == "xtask/tests/tidy/files.rs"),
        "the walk is broken"
    );
    files
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let entry = entry.expect("a readable directory");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a file type");
        if name == ".git" {
            // A directory, or a file that names one where this is one of several work trees.
        } else if kind.is_dir() {
            let build = entry.path().join("CACHEDIR.TAG").exists();
            if !build {
                collect(&entry.path(), &format!("{path}/"), files);
            }
        } else if kind.is_file()
            && name != "Cargo.lock"
            && name != "LICENSE"
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.push(File { path, text });
        }
    }
}
