//! The report in all its forms, beside the run.

use squall_analysis::render::{html, json, junit, markdown, text};
use squall_analysis::report::Report;
use squall_analysis::run::Run;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `report.json`, `report.html`, `report.md`, `report.txt` and `report.xml` into the run's folder; returns the path of the page, or of
/// the text when there is no page. What could not be written is told, and the others are written all the same.
pub fn write_reports(run_dir: &Path, run: &Run, report: &Report) -> (Option<PathBuf>, Vec<String>) {
    let page = run_dir.join("report.html");
    let forms = [
        (
            "report.json",
            json(report).map_err(|error| error.to_string()),
        ),
        ("report.txt", Ok(text::full(report, page.to_str()))),
        ("report.md", Ok(markdown::markdown(report))),
        ("report.xml", Ok(junit::junit(report))),
        (
            "report.html",
            html::detailed(report, run).map_err(|error| error.to_string()),
        ),
    ];
    let (mut last, mut problems) = (None, Vec::new());
    for (name, form) in forms {
        let written = form.and_then(|text| {
            write(run_dir, name, text.as_bytes()).map_err(|error| error.to_string())
        });
        match written {
            Ok(path) if name == "report.html" || name == "report.txt" => last = Some(path),
            Ok(_) => {}
            Err(error) => problems.push(format!("could not write {name}, because {error}")),
        }
    }
    (last, problems)
}

/// Writes a file whole, mode 0600: a reader never sees half of it.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(name);
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    std::fs::rename(&temporary, &path)?;
    Ok(path)
}
