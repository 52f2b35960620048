//! What users saw and what their clients did, in lines of text and as a part of the report.

use super::chapters::{Block, Table};
use super::page::Page;
use crate::clients::{Clients, Conduct, Experience, Finding};
use crate::num;
use crate::report::Report;

fn conduct(it: Conduct) -> &'static str {
    match it {
        Conduct::Held => "✓ held",
        Conduct::Broken => "✗ broken",
        Conduct::Inconclusive => "? inconclusive",
    }
}

fn time(ns: Option<u64>) -> String {
    ns.map_or("–".to_owned(), num::duration)
}

fn failed(it: &Experience) -> String {
    match it.failed.all {
        0 => "no calls".to_owned(),
        all => format!("{} of {all}", it.failed.of),
    }
}

fn line(it: &Experience) -> String {
    format!(
        "{}: {} failed, {} cut off, {} retries · first token {} (p95 {}) · longest gap {} (p95 {})",
        it.under,
        failed(it),
        it.cut_off,
        it.retries,
        time(it.first_token_p50_ns),
        time(it.first_token_p95_ns),
        time(it.longest_gap_p50_ns),
        time(it.longest_gap_p95_ns)
    )
}

fn told(it: &Finding) -> String {
    format!("{}: {} · {}", conduct(it.conduct), it.expects, it.because)
}

/// Lines of the terminal.
pub(super) fn rows(page: &mut Page, report: &Report) {
    let Some(clients) = &report.clients else {
        return;
    };
    page.gap();
    let mut name = "users";
    for it in &clients.users.seen {
        page.row(name, &line(it));
        name = "";
    }
    if clients.users.lost > 0 {
        let lost = clients.users.lost;
        page.row(
            "",
            &format!("{lost} records of requests were lost; these figures are of the others"),
        );
    }
    let mut name = "clients";
    for it in &clients.findings {
        page.row(name, &told(it));
        name = "";
        for line in &it.evidence {
            page.row("", &format!("  {line}"));
        }
    }
}

/// The part of page and Markdown.
pub(super) fn blocks(clients: &Clients) -> Vec<Block> {
    let seen = clients.users.seen.iter().map(|it| {
        vec![
            it.under.clone(),
            failed(it),
            it.cut_off.to_string(),
            it.retries.to_string(),
            time(it.first_token_p50_ns),
            time(it.first_token_p95_ns),
            time(it.longest_gap_p50_ns),
            time(it.longest_gap_p95_ns),
        ]
    });
    let findings = clients.findings.iter().map(|it| {
        vec![
            it.rule.clone(),
            it.expects.clone(),
            conduct(it.conduct).to_owned(),
            it.because.clone(),
        ]
    });
    let lost = match clients.users.lost {
        0 => "none was lost".to_owned(),
        lost => format!("{lost} were lost, and what needs them is inconclusive"),
    };
    let mut blocks = vec![
        Block::Small(format!(
            "From {} requests that went through the proxy; {lost}. A call is a question with all attempts to have it answered, and belongs to the first fault that acted on it. Times are from its first attempt.",
            num::thousands(clients.users.requests)
        )),
        Table::open(
            "What users saw",
            &[
                "calls",
                "failed",
                "cut off",
                "retries",
                "first token",
                "p95",
                "longest gap",
                "p95",
            ],
            seen.collect(),
        ),
        Table::open(
            "What clients did",
            &["rule", "a good client", "verdict", "because"],
            findings.collect(),
        ),
    ];
    for it in clients.findings.iter().filter(|it| !it.evidence.is_empty()) {
        blocks.push(Block::Heading(format!("Evidence: {}", it.rule)));
        blocks.push(Block::List(it.evidence.clone()));
    }
    blocks
}
