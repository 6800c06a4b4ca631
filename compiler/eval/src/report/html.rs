//! Pieces of HTML.

/// Text as HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            c if c.is_control() && c != '\n' && c != '\t' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A cell of a table.
pub enum Cell {
    /// Text.
    Text(String),
    /// Aligned to the right.
    Figure(String),
    /// A figure with a smaller one below it.
    Noted(String, String),
    /// Text that may take several lines.
    Long(String),
}

/// A table, which scrolls by itself if it is wider than the screen.
pub fn grid(head: &[Cell], rows: &[Vec<Cell>]) -> String {
    let cell = |tag: &str, cell: &Cell| match cell {
        Cell::Text(text) => format!("<{tag}>{}</{tag}>", escape(text)),
        Cell::Figure(text) => format!("<{tag} class=\"figure\">{}</{tag}>", escape(text)),
        Cell::Noted(text, note) => {
            format!("<{tag} class=\"figure\">{}<small>{}</small></{tag}>", escape(text), escape(note))
        }
        Cell::Long(text) => format!("<{tag} class=\"long\">{}</{tag}>", escape(text)),
    };
    let line = |tag: &str, cells: &[Cell]| {
        let cells: String = cells.iter().map(|c| cell(tag, c)).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = rows.iter().map(|row| line("td", row)).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead>{}</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n",
        line("th", head)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_markup() {
        assert_eq!(escape("<a href=\"x\">&\u{1}"), "&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}");
    }
}
