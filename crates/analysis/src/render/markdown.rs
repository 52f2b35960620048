//! The report as Markdown, for pull requests, tickets and chat: verdict first, tables where rows compare, nothing folded.

use super::chapters::{Block, Chapter, Table, chapters, stacks};
use super::view::number;
use super::{safe, text};
use crate::landing::Gone;
use crate::num;
use crate::report::Report;
use crate::same_result::{self, Sameness};

/// The report as one Markdown document.
pub fn markdown(report: &Report) -> String {
    let mut page = Page::default();
    head(&mut page, report);
    injections(&mut page, report);
    recoveries(&mut page, report);
    stacks(report).iter().for_each(|it| chapter(&mut page, it));
    expectations(&mut page, report);
    time(&mut page, report);
    same(&mut page, report);
    chapters(report)
        .iter()
        .for_each(|it| chapter(&mut page, it));
    data(&mut page, report);
    again(&mut page, report);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.0 += text;
            self.0 += "\n\n";
        }
    }

    fn heading(&mut self, text: &str) {
        self.paragraph(&format!("## {text}"));
    }

    fn list(&mut self, lines: &[String]) {
        let lines: Vec<String> = lines
            .iter()
            .map(|line| format!("- {}", plain(line)))
            .collect();
        self.paragraph(&lines.join("\n"));
    }

    fn table<const N: usize>(&mut self, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
        self.grid(&head, rows.map(Vec::from));
    }

    /// Each row has as many cells as the head.
    fn grid(&mut self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        let line = " --- |".repeat(head.len());
        self.0 += &format!("| {} |\n|{line}\n", head.join(" | "));
        for row in rows {
            self.0 += &format!("| {} |\n", row.join(" | "));
        }
        self.0.push('\n');
    }
}

/// Text of a run inside Markdown: never markup, never a second line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '&' => out += "&amp;",
            c => out.push(c),
        }
    }
    out
}

/// Text in a block that it cannot close by itself.
fn block(language: &str, text: &str) -> String {
    let text = safe(text);
    let mut fence = String::from("```");
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// A part that all forms share.
fn chapter(page: &mut Page, it: &Chapter) {
    page.heading(it.title);
    for piece in &it.blocks {
        match piece {
            Block::Sentence(text) | Block::Small(text) => page.paragraph(&plain(text)),
            Block::Heading(text) => page.paragraph(&format!("### {}", plain(text))),
            Block::List(lines) => page.list(lines),
            Block::Table(table) => rows(page, table),
            Block::Whole { title, text } => {
                page.paragraph(&format!("{}:", plain(title)));
                page.paragraph(&block("", text));
            }
        }
    }
}

fn rows(page: &mut Page, it: &Table) {
    if !it.title.is_empty() {
        page.paragraph(&format!("### {}", plain(it.title)));
    }
    let cells = |row: &Vec<String>| row.iter().map(|cell| plain(cell)).collect();
    page.grid(it.head, it.rows.iter().map(cells));
}

fn head(page: &mut Page, report: &Report) {
    let verdict = &report.verdict;
    page.paragraph(&format!(
        "# {}: {}",
        plain(&verdict.word),
        plain(&verdict.sentence)
    ));
    for because in &verdict.because {
        page.paragraph(&plain(because));
    }
    if let Some(it) = &report.requirement {
        let because = it.asked.because.as_ref();
        let because = because.map_or(String::new(), |it| format!(", because {}", plain(it)));
        let accept = it.asked.accept.as_ref();
        let accept = accept.map_or(String::new(), |it| format!(" Accepted: {}.", plain(it)));
        page.paragraph(&format!("Asked: {}{because}.{accept}", plain(&it.goal)));
    }
    page.paragraph(&format!(
        "{} · run {} · {} · {} · seed {} · {}",
        plain(&report.title),
        plain(&report.run.0),
        plain(&report.started_utc),
        num::duration(report.length_ns),
        report.reproduce.seed,
        report.blast_radius.words(),
    ));
    let figures = report.figures.iter();
    page.table(
        ["Figure", "Value", "What is counted"],
        figures.map(|it| [plain(&it.label), plain(&it.text), plain(&it.definition)]),
    );
}

fn injections(page: &mut Page, report: &Report) {
    page.heading("Injections");
    if report.injections.is_empty() {
        page.paragraph("Nothing was injected.");
        return;
    }
    let rows = report.injections.iter().enumerate().map(|(index, it)| {
        let landed = if it.landed.as_aimed() { "▼" } else { "?" };
        let gone = match it.gone {
            Gone::Unknown => "?",
            it if it.is_left() => "✗",
            _ => "✓",
        };
        let at = it.gone_ns.map(|t_ns| text::seconds(t_ns) + ": ");
        let at = at.unwrap_or_default();
        let remedy = it.remedy.as_ref();
        let remedy = remedy.map_or(String::new(), |it| format!(". To do: {}", plain(it)));
        [
            (index + 1).to_string(),
            plain(&format!("{} on {} · {}", it.kind, it.target, it.mechanism)),
            plain(&it.aim),
            plain(&format!(
                "{landed} {}: {}",
                text::seconds(it.landed_ns.unwrap_or(it.begun_ns)),
                it.landed_words
            )),
            format!("{gone} {at}{}{remedy}", plain(&it.gone_words)),
        ]
    });
    let head = [
        "#",
        "What",
        "Aimed",
        "Landed, and how we know",
        "Gone, and how we know",
    ];
    page.table(head, rows);
}

fn recoveries(page: &mut Page, report: &Report) {
    if report.recoveries.is_empty() {
        return;
    }
    page.heading("Recoveries");
    let rows = report.recoveries.iter().map(|it| {
        let parts = it.segments.iter();
        let parts = parts.map(|part| format!("{} {}", part.name, num::duration(part.duration_ns)));
        let parts = parts.collect::<Vec<_>>().join(" + ");
        [
            number(report, Some(&it.injection)),
            plain(&text::recovery_words(it)),
            plain(&parts),
            num::duration(it.total_ns),
        ]
    });
    page.table(["After #", "How it went", "Parts", "In all"], rows);
    let parts = text::stretches(&report.recoveries);
    if !parts.is_empty() {
        page.list(&parts);
    }
}

fn expectations(page: &mut Page, report: &Report) {
    if report.expectations.is_empty() {
        return;
    }
    page.heading("What was expected");
    let rows = report.expectations.iter().map(|it| {
        let (mark, word) = text::judgement(it.judgement);
        [
            format!("{mark} {word}"),
            plain(&it.expected),
            plain(&it.measured),
        ]
    });
    page.table(["Judgement", "Expected", "Measured"], rows);
}

fn same(page: &mut Page, report: &Report) {
    page.heading("The same result?");
    page.paragraph(&plain(&report.same_result.sentence));
    let rows = report.same_result.rungs.iter().map(|it| {
        let mark = match it.sameness {
            Sameness::Same => "✓",
            Sameness::Different => "✗",
            Sameness::NotMeasured => "?",
        };
        let word = same_result::word(it.sameness);
        [
            plain(&it.name),
            format!("{mark} {word}"),
            plain(&it.evidence),
        ]
    });
    page.table(["Rung", "Says", "Evidence"], rows);
}

fn time(page: &mut Page, report: &Report) {
    let training = report.training.as_ref();
    let Some(it) = training.and_then(|it| it.effectiveness.as_ref()) else {
        return;
    };
    let wall = it.to_ns.saturating_sub(it.from_ns).max(1) as f64;
    page.heading("Where the time went");
    let shares = it.shares.iter().filter(|share| share.duration_ns > 0);
    page.table(
        ["Share", "Time", "What"],
        shares.map(|share| {
            [
                num::percent(share.duration_ns as f64 / wall),
                num::duration(share.duration_ns),
                plain(&format!(
                    "{}: {}",
                    share.name.replace('-', " "),
                    share.meaning
                )),
            ]
        }),
    );
}

fn data(page: &mut Page, report: &Report) {
    let data = &report.data_quality;
    page.heading("Data quality, and what could not be concluded");
    let sources = if data.sources.is_empty() {
        "nowhere".into()
    } else {
        data.sources.join(", ")
    };
    let mut lines = vec![format!(
        "Training events came from: {sources}. Gaps in sampled series: {}.",
        data.gaps
    )];
    let dropped = data.dropped.iter();
    lines.extend(dropped.map(|(what, count)| format!("Dropped: {count} × {what}.")));
    lines.extend(data.not_concluded.iter().chain(&data.notes).cloned());
    page.list(&lines);
}

fn again(page: &mut Page, report: &Report) {
    let it = &report.reproduce;
    page.heading("Do it again");
    page.paragraph(&block("sh", &it.command));
    page.0 += &format!(
        "Seed {} · squall {} · experiment file SHA-256 {}\n",
        it.seed,
        plain(&it.squall),
        plain(&it.experiment_sha256)
    );
}
