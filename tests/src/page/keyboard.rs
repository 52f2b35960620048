//! The page with a keyboard alone: where Tab goes, what keys do there, and that one sees where one is.

use super::browser::{Browser, Key};
use super::{Check, check};
use anyhow::{Context, Result};

/// More stops than this no page has.
const STOPS_MAX: usize = 200;
/// What has the focus, and whether an outline shows it.
const FOCUS: &str = "(() => { const it = document.activeElement, style = getComputedStyle(it); \
    const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2; \
    const name = it === document.body ? '' : it.dataset.do || it.tagName.toLowerCase() + (it.className ? '.' + it.className.split(' ')[0] : ''); \
    return [name, seen, it.getBoundingClientRect().top + scrollY]; })()";
/// All that can be operated and is not folded away.
const OPERABLE: &str = "Array.from(document.querySelectorAll('button, summary, [tabindex], [role=button], a[href], input')) \
    .filter((it) => !it.closest('[hidden]') && (it.tagName === 'SUMMARY' ? !it.parentElement.parentElement.closest('details:not([open])') : !it.closest('details:not([open])'))).length";

/// A stop of the Tab key.
struct Stop {
    name: String,
    seen: bool,
}

fn focus(browser: &mut Browser) -> Result<Stop> {
    let it = browser.evaluate(FOCUS)?;
    Ok(Stop {
        name: it[0].as_str().context("no focus")?.to_owned(),
        seen: it[1] == true,
    })
}

/// Every stop from the top of the page until the focus leaves it.
fn walk(browser: &mut Browser) -> Result<Vec<Stop>> {
    let mut stops = Vec::new();
    while stops.len() < STOPS_MAX {
        browser.press(Key::Tab, false)?;
        let stop = focus(browser)?;
        if stop.name.is_empty() {
            break;
        }
        stops.push(stop);
    }
    Ok(stops)
}

fn names(stops: &[Stop]) -> Vec<&str> {
    stops.iter().map(|it| it.name.as_str()).collect()
}

fn address(browser: &mut Browser) -> Result<String> {
    let hash = browser.evaluate("location.hash")?;
    Ok(hash.as_str().unwrap_or_default().to_owned())
}

/// Goes to the next stop of that name.
fn tab_to(browser: &mut Browser, name: &str) -> Result<()> {
    for _ in 0..STOPS_MAX {
        browser.press(Key::Tab, false)?;
        if focus(browser)?.name == name {
            return Ok(());
        }
    }
    anyhow::bail!("Tab never comes to {name}")
}

/// With scripts: the page is freshly opened.
pub(super) fn checks(browser: &mut Browser, all: &mut Vec<Check>) -> Result<()> {
    let operable = browser.evaluate(OPERABLE)?;
    let stops = walk(browser)?;
    let begins = [
        "in",
        "out",
        "left",
        "right",
        "all",
        "div.panel",
        "span.flag",
    ];
    let order = names(&stops).starts_with(&begins);
    check(
        all,
        "Tab goes through the page in its order",
        order,
        names(&stops),
    );
    let reached = operable == stops.len();
    check(
        all,
        "Tab reaches all that can be operated",
        reached,
        (&operable, names(&stops)),
    );
    let unseen: Vec<&str> = stops
        .iter()
        .filter(|it| !it.seen)
        .map(|it| it.name.as_str())
        .collect();
    check(all, "one sees where one is", unseen.is_empty(), &unseen);

    tab_to(browser, "div.panel")?;
    let mut windows = Vec::new();
    for (key, shift) in [
        (Key::Plus, false),
        (Key::Right, true),
        (Key::Left, true),
        (Key::Zero, false),
    ] {
        browser.press(key, shift)?;
        windows.push(address(browser)?);
    }
    let zoomed = windows[..3].iter().all(|it| it.starts_with("#t="))
        && windows[0] == windows[2]
        && windows[0] != windows[1]
        && windows[3].trim_start_matches('#').is_empty();
    check(all, "keys zoom, move and reset", zoomed, &windows);
    browser.press(Key::Right, false)?;
    let told = browser.evaluate("document.querySelector('#chart [role=status]').textContent")?;
    let holds = told
        .as_str()
        .is_some_and(|it| it.contains(" s · ") && it.contains("Loss"));
    check(all, "a moved cursor is told in words", holds, &told);
    tab_to(browser, "span.flag")?;
    browser.press(Key::Enter, false)?;
    let fault = address(browser)?;
    check(
        all,
        "Enter on a fault zooms to it",
        fault.starts_with("#t="),
        &fault,
    );
    unfolds(browser, "with scripts", all)
}

/// Without scripts: what is folded away still opens.
pub(super) fn unfolds(browser: &mut Browser, how: &str, all: &mut Vec<Check>) -> Result<()> {
    tab_to(browser, "summary")?;
    browser.press(Key::Enter, false)?;
    let open = browser.evaluate("document.activeElement.parentElement.open")?;
    check(
        all,
        &format!("Enter unfolds a table {how}"),
        open == true,
        &open,
    );
    Ok(())
}
