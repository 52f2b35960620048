//! Files that mean harm are refused with words, quickly.
#![expect(
    clippy::disallowed_types,
    reason = "the test looks at the clock, the crate does not"
)]

mod support;

use squall_model::load::{BYTES_MAX, read, read_bytes};
use std::time::{Duration, Instant};
use support::TestFaults;

/// A hang guard, not a benchmark: debug builds on a busy machine are far slower than what `check` promises.
const GUARD: Duration = Duration::from_secs(5);

fn filled(part: &str) -> String {
    part.repeat(BYTES_MAX / part.len())
}

fn bomb() -> String {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, last) in "bcdefghi".chars().zip("abcdefgh".chars()) {
        text.push_str(&format!("{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"));
    }
    text
}

fn deep_block() -> String {
    (0..1400)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect()
}

fn many_keys() -> String {
    let mut text = String::new();
    for key in 0.. {
        if text.len() > BYTES_MAX - 20 {
            break;
        }
        text.push_str(&format!("k{key}: v\n"));
    }
    text
}

fn hostile() -> Vec<(&'static str, String, &'static str)> {
    let head = "version: 1\ntitle: t\nmethod:\n";
    vec![
        ("too large", "x".repeat(BYTES_MAX + 1), "too-large"),
        ("open lists", filled("["), "too-many-nodes"),
        ("open lists, fewer", "[".repeat(45_000), "too-deep"),
        ("open maps", "{".repeat(45_000), "too-deep"),
        ("open maps with keys", "{a: ".repeat(45_000), "too-deep"),
        ("a list of a million", filled("a,"), "too-many-nodes"),
        (
            "a list that never ends",
            format!("[{}", "a,".repeat(45_000)),
            "yaml-syntax",
        ),
        ("nested dashes", filled("- "), "too-deep"),
        ("question marks", "? ".repeat(45_000), "too-deep"),
        ("many question marks", filled("? "), "too-many-nodes"),
        ("nested block maps", deep_block(), "too-deep"),
        ("alias bomb", bomb(), "yaml-alias"),
        ("many keys", many_keys(), "too-many-nodes"),
        ("many equal keys", "a: b\n".repeat(20_000), "duplicate-key"),
        (
            "many unknown keys",
            format!("method: []\n{}", &many_keys()[..200_000]),
            "unknown-key",
        ),
        ("many items", filled("- a\n"), "too-many-nodes"),
        (
            "open quote",
            format!("a: \"{}", filled("x")[..BYTES_MAX - 8].to_owned()),
            "yaml-syntax",
        ),
        ("one long word", filled("x"), "wrong-type"),
        (
            "one long key",
            format!("{}: 1", &filled("x")[..BYTES_MAX - 3]),
            "yaml-syntax",
        ),
        (
            "one long number",
            format!("version: {}", "9".repeat(900_000)),
            "wrong-type",
        ),
        ("spaces", filled(" "), "empty-file"),
        ("empty lines", filled("\n"), "empty-file"),
        ("comments", filled("#\n"), "empty-file"),
        ("colons", filled(": "), "too-deep"),
        ("many documents", filled("---\n"), "yaml-documents"),
        ("exclamation marks", filled("!"), "yaml-syntax"),
        (
            "many bad steps",
            format!("{head}{}", "- proces-kil: {}\n".repeat(9_000)),
            "more-problems",
        ),
        (
            "many steps with every mistake",
            format!(
                "{head}{}",
                "- process-pause: {target: {name: a}, at: {}}\n".repeat(3_000)
            ),
            "more-problems",
        ),
        (
            "steps that wait for each other",
            format!("{head}{}", ring(1_500)),
            "more-problems",
        ),
        (
            "a pattern that grows",
            format!("{head}- process-kill: {{target: {{command: '(?:a{{1000}}){{1000}}'}}}}\n"),
            "bad-pattern",
        ),
        (
            "escape sequences",
            "title: \u{1b}[2J".to_owned(),
            "control-character",
        ),
        (
            "a zero byte",
            "version: 1\n\0title: x".to_owned(),
            "control-character",
        ),
        ("nothing", String::new(), "empty-file"),
    ]
}

fn ring(steps: usize) -> String {
    (0..steps)
        .map(|step| format!("- process-kill: {{name: s{step}, target: {{pid: 1}}, after: {{injection: s{}}}}}\n", (step + 1) % steps))
        .collect()
}

#[test]
fn hostile_files_are_refused_with_words_and_do_not_hang() {
    let mut wrong = Vec::new();
    for (what, text, code) in hostile() {
        let start = Instant::now();
        let found = read::<TestFaults>(&text, "hostile.yaml").expect_err(what);
        let took = start.elapsed();
        println!("{took:>12?}  {what}");
        assert!(took < GUARD, "{what} took {took:?}");
        let codes: Vec<&str> = found.iter().map(|one| one.code.as_str()).collect();
        if !codes.contains(&code) {
            wrong.push(format!(
                "{what}: {:?} {:?}",
                &codes[..codes.len().min(5)],
                found[0]
            ));
        }
        assert!(found.len() <= 101, "{what}: {} problems", found.len());
        let shown = squall_model::diagnostic::render(&found, &text, "hostile.yaml");
        assert!(
            shown.len() < 64 * 1024,
            "{what}: {} bytes are printed",
            shown.len()
        );
        assert!(!shown.contains('\u{1b}') && !shown.contains('\0'), "{what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let found = read_bytes::<TestFaults>(b"title: \xff", "x").expect_err("no text");
    assert_eq!(found[0].code, "not-utf8");
}
