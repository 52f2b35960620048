//! Lines of at most 80 columns with a label on the left.

use super::safe;

const WIDTH: usize = 80;
/// Column at which the text beside a label begins.
const INDENT: usize = 10;

/// Lines with a label on the left and wrapped text beside it.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    /// A label and wrapped text beside it.
    pub(super) fn row(&mut self, label: &str, text: &str) {
        let mut label = safe(label);
        for paragraph in safe(text).lines() {
            for line in wrap(paragraph, WIDTH - INDENT) {
                let row = format!(" {label:<width$}{line}", width = INDENT - 1);
                self.text += row.trim_end();
                self.text.push('\n');
                label.clear();
            }
        }
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.text.push('\n');
    }
}

/// Breaks text at spaces; a word longer than a line stands alone on one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut length = usize::MAX;
    for word in text.split([' ', '\t']).filter(|word| !word.is_empty()) {
        let letters = word.chars().count();
        match lines.last_mut() {
            Some(line) if length + 1 + letters <= width => {
                line.push(' ');
                line.push_str(word);
                length += 1 + letters;
            }
            _ => {
                lines.push(word.to_owned());
                length = letters;
            }
        }
    }
    lines
}
