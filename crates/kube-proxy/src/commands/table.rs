//! Tables in plain text.

use super::output::Style;

/// A table fits this width, unless it is to show everything.
pub(super) const WIDTH: usize = 100;
const GAP: &str = "  ";

/// Rows under headings. Cells are plain text; the style paints headings.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text. Above `most` columns the widest cells are cut, which an ellipsis shows.
    pub(super) fn render(&self, style: Style, most: Option<usize>) -> String {
        let widths = self.widths(most);
        let mut text = style.strong(&line(self.headings.iter().copied(), &widths)) + "\n";
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str), &widths);
            text.push('\n');
        }
        text
    }

    fn widths(&self, most: Option<usize>) -> Vec<usize> {
        let column = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(String::as_str);
            cells.chain([self.headings[index]]).map(width).max().unwrap_or_default()
        };
        let mut widths: Vec<usize> = (0..self.headings.len()).map(column).collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        if let Some(most) = most {
            while widths.iter().sum::<usize>() + gaps > most {
                let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > 4) else {
                    break;
                };
                *widest -= 1;
            }
        }
        widths
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let cell = |(text, most): (&str, &usize)| {
        if width(text) <= *most {
            return format!("{text:most$}");
        }
        let cut: String = text.chars().take(most.saturating_sub(1)).collect();
        cut + "…"
    };
    let cells: Vec<String> = cells.zip(widths).map(cell).collect();
    cells.join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
