//! File name patterns: `*` is any number of bytes, `?` one.

/// Whether `name` fits `pattern`. Linear for one star; at most length × stars for more, however hostile the pattern.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, at)) => {
                    star = Some((after, at + 1));
                    (p, n) = (after, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_a_shell_does() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("?", "x", true),
            ("?", "", false),
            ("a", "ab", false),
            ("a*c", "abb", false),
            ("*.pt", "a.pt", true),
            ("*.pt", "a.pt.tmp", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("step-??", "step-10", true),
            ("step-??", "step-1", false),
            ("**a", "bca", true),
            ("*?*", "", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    /// Trying every way to share out the letters would not end.
    #[test]
    fn many_stars_are_no_trap() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 4_000]));
    }
}
