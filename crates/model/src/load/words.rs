//! Words for people: what was probably meant, and lists that read well.

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = normal(word);
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (likeness(&word, &normal(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= 0.7)
        // The first of equals, in the order of the list.
        .fold(None, |best: Option<(f64, &str)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, candidate)| candidate)
}

/// The nearest candidate, or else the only one that begins with the same word: `step-done` was meant as `step-end`.
pub(crate) fn meant<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let near = nearest(word, candidates.clone());
    let normal = normal(word);
    let (first, _) = normal.split_once('-').unwrap_or_default();
    near.or_else(|| {
        let alike = |one: &&str| !first.is_empty() && one.split('-').next() == Some(first);
        let mut alike = candidates.into_iter().filter(alike);
        alike.next().filter(|_| alike.next().is_none())
    })
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace(['_', ' '], "-")
}

fn likeness(left: &str, right: &str) -> f64 {
    let longest = left.chars().count().max(right.chars().count()) as f64;
    let edits = strsim::damerau_levenshtein(left, right) as f64;
    // Short words allow one slip, which is a large share of them.
    if edits <= 1.0 && longest >= 2.0 {
        0.99 - 0.001 * edits
    } else {
        1.0 - edits / longest
    }
}

/// `a`, `b` or `c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [head @ .., last] if head.len() < 14 => format!("{} or {last}", head.join(", ")),
        many => format!("{} and {} more", many[..12].join(", "), many.len() - 12),
    }
}

/// `a`, `b`, `c`: what there is.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| format!("`{}`", short(word)))
        .collect();
    match words.len() {
        0..=12 => words.join(", "),
        many => format!("{} and {} more", words[..12].join(", "), many - 12),
    }
}

/// At most 40 characters of what was written.
pub(crate) fn short(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(40)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(40).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{meant, nearest, one_of, short};

    #[test]
    fn what_was_meant_is_found_among_slips_and_not_among_other_words() {
        let faults = ["process-kill", "process-pause", "cpu-pressure", "at", "for"];
        for (word, meant) in [
            ("proces-kil", Some("process-kill")),
            ("process_kill", Some("process-kill")),
            ("Process Pause", Some("process-pause")),
            ("cpu-presure", Some("cpu-pressure")),
            ("fro", Some("for")),
            ("ta", Some("at")),
            ("coffee", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, faults), meant, "{word}");
        }
    }

    #[test]
    fn the_only_word_that_begins_alike_is_meant_too() {
        let events = ["step-end", "phase-begin", "phase-end", "log"];
        for (word, wanted) in [
            ("step-done", Some("step-end")),
            ("Step_Done", Some("step-end")),
            ("phase-xyzw", None),
            ("step", None),
            ("-end", None),
            ("", None),
        ] {
            assert_eq!(meant(word, events), wanted, "{word}");
        }
    }

    #[test]
    fn lists_read_well_and_stay_short() {
        assert_eq!(one_of(["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(one_of(["a"]), "`a`");
        assert!(one_of(std::iter::repeat_n("a", 40)).ends_with("and 28 more"));
        assert_eq!(short(&"x".repeat(41)).chars().count(), 41);
    }
}
