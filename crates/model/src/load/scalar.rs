//! What a scalar without quotes is: YAML 1.2's core schema, nothing more (`yes` and `on` are words).

/// The type of a plain scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Nothing,
    Truth(bool),
    /// A whole number that fits 64 bits.
    Whole(i128),
    /// Any other number, or a whole one beyond 64 bits.
    Number(f64),
    Text,
}

/// Types `text` as YAML 1.2 does.
pub(crate) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Nothing,
        "true" | "True" | "TRUE" => return Plain::Truth(true),
        "false" | "False" | "FALSE" => return Plain::Truth(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Number(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Plain::Number(f64::INFINITY),
        _ if unsigned.is_empty() || unsigned.len() > 400 => return Plain::Text,
        _ => {}
    }
    if let Some(whole) = whole(text, unsigned) {
        return whole;
    }
    let numeric = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match text.parse::<f64>() {
        Ok(number) if numeric && starts && unsigned.bytes().any(|b| b.is_ascii_digit()) => {
            Plain::Number(number)
        }
        _ => Plain::Text,
    }
}

fn whole(text: &str, unsigned: &str) -> Option<Plain> {
    let fits = |number: i128| {
        if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number) {
            Plain::Whole(number)
        } else {
            Plain::Number(number as f64)
        }
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let digits = (!digits.starts_with(['+', '-'])).then_some(digits)?;
            return i128::from_str_radix(digits, radix).ok().map(fits);
        }
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i128>().ok().map(fits);
    }
    None
}
