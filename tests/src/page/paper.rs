//! The page on paper: what programs that know nothing of browsers (poppler) find in the PDF.

use super::{Check, check, facts};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// More pages than this nobody reads.
const PAGES_MAX: usize = 12;
/// Resolution at which a page is looked at, in dots per inch.
const DPI: u32 = 60;

/// Checks the PDF of a page that must say all facts.
pub(super) fn checks(pdf: &Path, how: &str, wanted: &[String], all: &mut Vec<Check>) -> Result<()> {
    let text = poppler("pdftotext", &["-raw"], pdf, &["-"])?;
    let text = String::from_utf8(text)?;
    let pages = text.matches('\u{c}').count();
    let missing = facts::missing(wanted, &text);
    let name = |what: &str| format!("{what}, printed {how}");
    check(all, &name("every fact"), missing.is_empty(), &missing);
    let holds = (2..=PAGES_MAX).contains(&pages);
    check(all, &name("no more pages than one reads"), holds, pages);
    let cut = cut(&String::from_utf8(poppler(
        "pdftotext",
        &["-bbox"],
        pdf,
        &["-"],
    )?)?)?;
    check(all, &name("nothing is cut"), cut.is_empty(), &cut);
    let marks = ["Zoom in", "Drag to zoom"];
    let tools: Vec<&str> = marks.into_iter().filter(|it| text.contains(it)).collect();
    check(all, &name("no controls"), tools.is_empty(), &tools);
    let colours = colours(pdf)?;
    let holds = colours.white && colours.line > 300 && colours.fault > 100;
    let verdict_and_charts = "verdict and charts on the first sheet, on white";
    check(all, &name(verdict_and_charts), holds, colours);
    Ok(())
}

fn poppler(program: &str, before: &[&str], pdf: &Path, after: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(before)
        .arg(pdf)
        .args(after)
        .output()
        .with_context(|| format!("could not start {program} (poppler-utils)"))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}",
        output.status
    );
    Ok(output.stdout)
}

/// Words that reach over the edge of their page.
fn cut(boxes: &str) -> Result<Vec<String>> {
    let number = |line: &str, key: &str| -> Result<f64> {
        let (_, rest) = line
            .split_once(&format!("{key}=\""))
            .with_context(|| format!("no {key} in {line}"))?;
        Ok(rest.split('"').next().unwrap_or_default().parse()?)
    };
    let (mut width, mut height, mut cut, mut words) = (0.0, 0.0, Vec::new(), 0);
    for line in boxes.lines().map(str::trim) {
        if line.starts_with("<page ") {
            (width, height) = (number(line, "width")?, number(line, "height")?);
        } else if line.starts_with("<word ") {
            words += 1;
            let inside = number(line, "xMin")? >= 0.0
                && number(line, "xMax")? <= width
                && number(line, "yMin")? >= 0.0
                && number(line, "yMax")? <= height;
            if !inside {
                cut.push(line.to_owned());
            }
        }
    }
    ensure!(words > 100, "pdftotext found {words} words");
    Ok(cut)
}

/// Dots of the first page.
#[derive(Debug)]
struct Colours {
    /// Whether the paper is white.
    white: bool,
    /// Dots of the colour of the first line.
    line: usize,
    /// Dots of the colour of faults.
    fault: usize,
}

fn colours(pdf: &Path) -> Result<Colours> {
    let dpi = DPI.to_string();
    let first = ["-r", &dpi, "-f", "1", "-l", "1"];
    let picture = poppler("pdftoppm", &first, pdf, &[])?;
    // P6, width, height and depth, each followed by one white space, then three bytes a dot.
    let head = picture
        .iter()
        .enumerate()
        .filter(|(_, c)| c.is_ascii_whitespace());
    let end = head.map(|(at, _)| at).nth(3).context("no picture")?;
    let dots = &picture[end + 1..];
    let near = |dot: &[u8], want: [u8; 3]| {
        dot.iter()
            .zip(want)
            .all(|(have, want)| have.abs_diff(want) < 60)
    };
    let count = |want| dots.chunks(3).filter(|dot| near(dot, want)).count();
    Ok(Colours {
        white: dots[..3] == [255; 3],
        line: count([0, 114, 178]),
        fault: count([213, 94, 0]),
    })
}
