//! The reader of the list of connections, for fuzz targets. It may not panic, whatever it reads.

/// Reads the lines of `/proc/net/ip_vs_conn`.
pub fn connections(text: &str) {
    for line in text.lines() {
        std::hint::black_box(crate::connections::parse(line));
        std::hint::black_box(crate::connections::parse_template(line));
    }
}
