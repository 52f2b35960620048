//! Patterns with `*`, matched in time linear in pattern times text.

/// Whether `pattern` matches the whole of `text`. With a separator, `*` stays between two of them and `**` does not.
pub fn matches(pattern: &str, text: &str, separator: Option<char>) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reached[i]: the pattern so far can have consumed exactly i characters.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut rest = pattern.chars().peekable();
    while let Some(part) = rest.next() {
        if part == '*' {
            let mut stars = 1;
            while rest.next_if_eq(&'*').is_some() {
                stars += 1;
            }
            let stop = separator.filter(|_| stars == 1);
            for at in 0..text.len() {
                reached[at + 1] |= reached[at] && Some(text[at]) != stop;
            }
        } else {
            for at in (0..text.len()).rev() {
                reached[at + 1] = reached[at] && text[at] == part;
            }
            reached[0] = false;
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text_within_a_folder() {
        for (pattern, text, whole, within) in [
            ("network-*", "network-partition", true, true),
            ("network-*", "network", false, false),
            ("*", "", true, true),
            ("*", "a/b", true, false),
            ("**", "a/b", true, true),
            ("{out}/*", "{out}/a.bin", true, true),
            ("{out}/*", "{out}/a/b.bin", true, false),
            ("{out}/**", "{out}/a/b.bin", true, true),
            ("a*b*c", "aXbYc", true, true),
            ("a*b*c", "aXbY", false, false),
            ("", "", true, true),
            ("", "a", false, false),
        ] {
            assert_eq!(matches(pattern, text, None), whole, "{pattern} {text}");
            assert_eq!(
                matches(pattern, text, Some('/')),
                within,
                "{pattern} {text} within"
            );
        }
    }
}
