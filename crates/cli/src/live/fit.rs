//! Lines that fit the terminal: long ones go on under their text, those of the live area end in an ellipsis.

use crate::output::Stream;
use std::borrow::Cow;

/// Column at which the text of a line begins, after its time or label.
pub(super) const INDENT: usize = 10;
/// No terminal is taken to be narrower.
const NARROWEST: usize = 40;

/// Columns of the terminal behind a stream; none when there is no terminal.
pub(crate) fn columns(stream: Stream) -> Option<usize> {
    let size = match stream {
        Stream::Out => rustix::termios::tcgetwinsize(std::io::stdout()),
        Stream::Error => rustix::termios::tcgetwinsize(std::io::stderr()),
    };
    let size = size.ok()?;
    // A terminal that does not say how wide it is has the usual width.
    let columns = if size.ws_col == 0 { 80 } else { size.ws_col };
    Some(usize::from(columns).max(NARROWEST))
}

/// The text as standard error is to show it: wrapped at a terminal, as it is in a log.
pub(crate) fn for_terminal(text: &str) -> String {
    fitted(text, columns(Stream::Error), INDENT)
}

/// The text wrapped to `columns`, continued at column `indent`; as it is without a width.
pub(crate) fn fitted(text: &str, columns: Option<usize>, indent: usize) -> String {
    match columns {
        Some(columns) => wrap(text, columns, indent),
        None => text.to_owned(),
    }
}

/// A text of at most `columns`, its middle left out when it is longer: the ends of a path or a title say most.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    let keep = columns.saturating_sub(1);
    let head = keep.div_ceil(2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - (keep - head)).collect();
    format!("{start}…{end}")
}

/// Columns that a text takes: escapes that set colours take none.
fn width(text: &str) -> usize {
    let mut escape = false;
    let shown = text.chars().filter(|c| {
        let hidden = escape || *c == '\x1b';
        escape = hidden && *c != 'm';
        !hidden
    });
    shown.count()
}

/// Breaks each line at spaces; what follows stands under the text, not under the time. A word longer than a line loses its middle.
pub(super) fn wrap(text: &str, columns: usize, indent: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut used = 0;
        let start = line.len() - line.trim_start_matches(' ').len();
        let room = columns.saturating_sub(indent.max(start)).max(2);
        for (index, word) in line.split(' ').enumerate() {
            // Words with colours are short.
            let word = if width(word) > room && !word.contains('\x1b') {
                Cow::Owned(shortened(word, room))
            } else {
                Cow::Borrowed(word)
            };
            let length = width(&word);
            let breaks = used > indent.max(start) && length > 0 && used + 1 + length > columns;
            if breaks {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                used = indent;
            } else if index > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(&word);
            used += length;
        }
        out.push('\n');
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

/// A line without colours, cut to the terminal's width.
pub(super) fn cut(line: &str, columns: usize) -> String {
    let mut shown = line.to_owned();
    if line.chars().count() > columns {
        shown = line.chars().take(columns - 1).collect();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_goes_on_under_the_text() {
        let line = " 8.7      ▼ process-kill   rank 1   landed in step 160, epoch 10";
        assert_eq!(
            wrap(line, 40, INDENT),
            " 8.7      ▼ process-kill   rank 1\n          landed in step 160, epoch 10"
        );
        assert_eq!(wrap(line, 80, INDENT), line);
        assert!(wrap(line, 44, INDENT).lines().all(|line| width(line) <= 44));
        let long = format!(" report   /var/{}/report.html", "x".repeat(60));
        let fits = wrap(&long, 40, INDENT);
        assert_eq!(fits, " report   /var/xxxxxxxxxx…xx/report.html");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(width("\x1b[1;31m✗\x1b[0m no"), 4);
        let line = "12345678901 \x1b[32m✓\x1b[0m 34567890";
        assert_eq!(wrap(line, 22, INDENT), line);
    }

    #[test]
    fn a_line_of_the_live_area_is_cut() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
    }
}
