//! `cargo xtask picture`: draws how a change travels, `docs/change.svg`.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use kube_proxy_testkit::say;

use crate::workspace;

/// Where the picture is, from the root of the workspace.
const PATH: &str = "docs/change.svg";

/// A station on the way, with what it does and what a replaced endpoint looks like there.
struct Station {
    name: &'static str,
    place: &'static str,
    does: [&'static str; 2],
    example: [&'static str; 2],
}

const STATIONS: [Station; 6] = [
    Station {
        name: "source",
        place: "crates/source",
        does: ["decodes used fields,", "normalises them"],
        example: ["EndpointSlice of web:", "10.1.0.7 for 10.1.0.3"],
    },
    Station {
        name: "tracker",
        place: "crates/core",
        does: ["compares with its state,", "drops what is equal"],
        example: ["changed: default/web:http,", "1 of 10 endpoints"],
    },
    Station {
        name: "scheduler",
        place: "crates/core",
        does: ["decides when to sync,", "collects changes until then"],
        example: ["due now,", "or with the next ones"],
    },
    Station {
        name: "snapshot",
        place: "crates/core",
        does: ["selects endpoints,", "settles contested addresses"],
        example: ["10 endpoints for clients,", "owner: default/web"],
    },
    Station {
        name: "backend",
        place: "crates/nftables, iptables, …",
        does: ["plan → diff → encode:", "only what differs"],
        example: ["2 elements deleted,", "2 elements added"],
    },
    Station {
        name: "kernel",
        place: "one transaction",
        does: ["accepts all of it", "or nothing"],
        example: ["the next connection", "goes to 10.1.0.7"],
    },
];

const WIDTH: usize = 184;
const GAP: usize = 28;
const MARGIN: usize = 16;
const BOX_TOP: usize = 56;
const BOX_HEIGHT: usize = 92;

/// Draws it and writes the file.
pub(crate) fn run() -> anyhow::Result<()> {
    fs::write(workspace::root().join(PATH), draw()).context(PATH)?;
    say!("{PATH} is written");
    Ok(())
}

/// The whole picture.
fn draw() -> String {
    let width = 2 * MARGIN + STATIONS.len() * (WIDTH + GAP) - GAP;
    let height = 236;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>How a change of an endpoint travels from the API server to the kernel</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    band(&mut svg, 0, 0, "the main thread", "#e8f0fa");
    band(
        &mut svg,
        1,
        5,
        "one thread for each IP family, without I/O up to the last step",
        "#eef6ea",
    );
    for (index, station) in STATIONS.iter().enumerate() {
        draw_station(&mut svg, index, station);
    }
    svg += "</svg>\n";
    svg
}

/// Left edge of a station.
fn left(index: usize) -> usize {
    MARGIN + index * (WIDTH + GAP)
}

/// The ground that neighbouring stations share.
fn band(svg: &mut String, first: usize, last: usize, label: &str, colour: &str) {
    let (x, end) = (left(first) - 8, left(last) + WIDTH + 8);
    let (width, y, height) = (end - x, 14, BOX_TOP + BOX_HEIGHT);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{colour}\"/>"
    );
    text(svg, x + 10, 36, "font-size=\"12\" fill=\"#555555\"", label);
}

fn draw_station(svg: &mut String, index: usize, station: &Station) {
    let (x, middle) = (left(index), left(index) + WIDTH / 2);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{BOX_TOP}\" width=\"{WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\" fill=\"#ffffff\" stroke=\"#333333\"/>"
    );
    let centred = "text-anchor=\"middle\"";
    text(
        svg,
        middle,
        BOX_TOP + 22,
        &format!("{centred} font-size=\"14\" font-weight=\"bold\""),
        station.name,
    );
    let small = format!("{centred} font-size=\"11\" fill=\"#777777\"");
    text(svg, middle, BOX_TOP + 38, &small, station.place);
    for (line, y) in station.does.iter().zip([60, 77]) {
        text(svg, middle, BOX_TOP + y, centred, line);
    }
    let example = format!("{centred} font-size=\"12\" fill=\"#a04000\"");
    for (line, y) in station.example.iter().zip([190, 207]) {
        text(svg, middle, y, &example, line);
    }
    if index > 0 {
        arrow(svg, x - GAP, x, BOX_TOP + BOX_HEIGHT / 2);
    }
}

fn arrow(svg: &mut String, from: usize, to: usize, y: usize) {
    let (tip, top, bottom) = (to - 8, y - 5, y + 5);
    let _ = writeln!(
        svg,
        "<path d=\"M{from} {y} H{tip}\" stroke=\"#333333\" stroke-width=\"2\" fill=\"none\"/>\n\
         <path d=\"M{tip} {top} L{to} {y} L{tip} {bottom} Z\" fill=\"#333333\"/>"
    );
}

fn text(svg: &mut String, x: usize, y: usize, style: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" {style}>{words}</text>");
}

#[cfg(test)]
mod tests;
