//! `squall report`: a stored run, analysed anew, in any form.

use super::runs;
use crate::Outcome;
use crate::arguments::{Report, ReportFormat};
use crate::output::Failure;
use squall_analysis::render;
use squall_control::store::StoredRun;
use squall_model::exit::Exit;
use std::fmt::Display;

pub(crate) fn run(arguments: &Report) -> Outcome {
    let run = runs::find(&arguments.run)?;
    if run.live {
        return Err(Failure::new(
            Exit::Refused,
            format!("run {} is live: it has no verdict yet", run.run),
            Some(
                "`squall status` says what it has injected; the report is there when it has ended",
            ),
        ));
    }
    let stored = StoredRun::open(&run.dir).map_err(|error| Failure::new(Exit::Bug, error, None))?;
    let report = squall_analysis::conclude(&stored);
    let page = run.dir.join("report.html");
    let page = page.exists().then(|| page.display().to_string());
    match arguments.format {
        ReportFormat::Text => print!("{}", render::text::full(&report, page.as_deref())),
        ReportFormat::Json => println!("{}", render::json(&report).map_err(unwritable)?),
        ReportFormat::Junit => print!("{}", render::junit::junit(&report)),
        ReportFormat::Markdown => print!("{}", render::markdown::markdown(&report)),
        ReportFormat::Html => print!(
            "{}",
            render::html::detailed(&report, &stored).map_err(unwritable)?
        ),
    }
    // The report's own verdict stands in it; showing it is no finding.
    Ok(Exit::Held)
}

fn unwritable(error: impl Display) -> Failure {
    Failure::new(
        Exit::Bug,
        format!("could not write the report, because {error}"),
        None,
    )
}
