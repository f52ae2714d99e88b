//! An SVG chart of what grows with the number of services.

use std::fmt::Write as _;

use super::Arguments;
use super::figures::{Run, median_of};
use super::report::number;

/// What is drawn: key of the figure, and title.
const PANELS: [(&str, &str); 8] = [
    ("complete_s", "exec to dataplane complete (s)"),
    ("full_sync_s", "first syncs, all families together (s)"),
    ("load_cpu_s", "CPU to load (s)"),
    ("change_median_ms", "change to first packet, median (ms)"),
    ("change_sync_ms", "sync of a change, mean (ms)"),
    ("change_cpu_ms", "CPU per change (ms)"),
    ("peak_rss_mb", "peak resident memory (MB)"),
    ("handshake_last_us", "handshake with the last service (us)"),
];

/// Colours that also differ for those who see few colours.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

const PANEL_WIDTH: f64 = 380.0;
const PANEL_HEIGHT: f64 = 240.0;
const COLUMNS: usize = 2;
const HEAD: f64 = 60.0;

/// Space around the plot within a panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (58.0, 30.0, 18.0, 36.0);

/// Part of a panel's axes, from value to position.
struct Scale {
    largest: (f64, f64),
    origin: (f64, f64),
    size: (f64, f64),
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        self.origin.0 + self.size.0 * value / self.largest.0
    }

    fn y(&self, value: f64) -> f64 {
        self.origin.1 + self.size.1 * (1.0 - value / self.largest.1)
    }
}

/// Draws a panel for each figure, with a line for each contender.
pub(super) fn draw(arguments: &Arguments, runs: &[Run], contenders: &[&str]) -> String {
    let rows = PANELS.len().div_ceil(COLUMNS);
    let (width, height) = (PANEL_WIDTH * count(COLUMNS), HEAD + PANEL_HEIGHT * count(rows));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\">kube-proxy, {} mode, {} endpoints per service</text>\n",
        escaped(&arguments.variant.label()),
        arguments.endpoints
    );
    legend(&mut svg, contenders);
    for (index, (key, title)) in PANELS.iter().enumerate() {
        let corner =
            (PANEL_WIDTH * count(index % COLUMNS), HEAD + PANEL_HEIGHT * count(index / COLUMNS));
        let lines = lines(&arguments.sizes(), runs, contenders, key);
        panel(&mut svg, corner, title, &lines);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, contenders: &[&str]) {
    for (index, name) in contenders.iter().enumerate() {
        let x = 16.0 + 110.0 * count(index);
        let colour = COLOURS[index % COLOURS.len()];
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"36\" width=\"18\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"42\">{}</text>",
            x + 24.0,
            escaped(name)
        );
    }
}

/// Points of each contender: services and value.
fn lines(sizes: &[u32], runs: &[Run], contenders: &[&str], key: &str) -> Vec<Vec<(f64, f64)>> {
    let points = |name: &&str| {
        let sizes = sizes.iter();
        sizes
            .filter_map(|&size| Some((f64::from(size), median_of(runs, name, size, key)?)))
            .collect()
    };
    contenders.iter().map(points).collect()
}

fn panel(svg: &mut String, corner: (f64, f64), title: &str, lines: &[Vec<(f64, f64)>]) {
    let (left, top, right, bottom) = MARGIN;
    let points = || lines.iter().flatten();
    let scale = Scale {
        largest: (
            round_up(points().map(|point| point.0).fold(0.0, f64::max)),
            round_up(points().map(|point| point.1).fold(0.0, f64::max)),
        ),
        origin: (corner.0 + left, corner.1 + top),
        size: (PANEL_WIDTH - left - right, PANEL_HEIGHT - top - bottom),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" font-size=\"12\">{}</text>",
        scale.origin.0,
        corner.1 + top - 10.0,
        escaped(title)
    );
    axes(svg, &scale);
    for (index, line) in lines.iter().enumerate() {
        curve(svg, &scale, line, COLOURS[index % COLOURS.len()]);
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    const STEPS: u32 = 4;
    let (bottom, end) = (scale.y(0.0), scale.x(scale.largest.0));
    for step in 0..=STEPS {
        let share = f64::from(step) / f64::from(STEPS);
        let (value, services) = (scale.largest.1 * share, scale.largest.0 * share);
        let (x, y) = (scale.x(services), scale.y(value));
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{y:.1}\" x2=\"{end:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>\
             <text x=\"{x:.1}\" y=\"{4:.1}\" text-anchor=\"middle\">{services:.0}</text>",
            scale.origin.0,
            scale.origin.0 - 6.0,
            y + 4.0,
            number(value),
            bottom + 16.0
        );
    }
}

fn curve(svg: &mut String, scale: &Scale, line: &[(f64, f64)], colour: &str) {
    let points: Vec<String> =
        line.iter().map(|&(x, y)| format!("{:.1},{:.1}", scale.x(x), scale.y(y))).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        points.join(" ")
    );
    for &(x, y) in line {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{}</title></circle>",
            scale.x(x),
            scale.y(y),
            number(y)
        );
    }
}

/// The next number of the kind 1, 2, 2.5, 4, 5 or 8 times a power of ten; 1 for none.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0];
    let step = steps.into_iter().find(|step| value <= step * power * (1.0 + 1e-9));
    step.unwrap_or(10.0) * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn count(number: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are few panels")]
    let number = number as f64;
    number
}

#[cfg(test)]
mod tests;
