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
