//! Programs of other projects that `cargo xtask check-host` downloads for tests, in the cache directory of this user.

use std::env;
use std::path::{Path, PathBuf};

/// Where they are.
pub fn directory() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    cache.or_else(home).unwrap_or_else(env::temp_dir).join("kube-proxy-tools")
}

/// Browsers without a window that print what a page becomes, the smallest first.
const BROWSERS: [&str; 4] = ["chromium-headless-shell", "chromium", "google-chrome", "chrome"];

/// A browser that understands the options of headless Chromium.
pub fn browser() -> Option<PathBuf> {
    BROWSERS.into_iter().find_map(find)
}

/// The program of this name: one that is installed, or else the downloaded one.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories = env::split_paths(&path).chain([directory()]);
    directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.is_file()))
}
