//! Numbers as people read them: three significant digits, a thin space for thousands, always a unit.

/// Three significant digits, without an exponent: `0.00123`, `6.24`, `1 850`.
pub fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        let word = match (value.is_nan(), value > 0.0) {
            (true, _) => "not a number",
            (_, true) => "+infinite",
            _ => "-infinite",
        };
        return word.into();
    }
    // The exponent after rounding: 9.999 is 1.00e1 and needs one decimal less than 9.99.
    let rounded = format!("{value:.2e}");
    let exponent: i32 = rounded
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or(0);
    if !(-9..15).contains(&exponent) {
        return rounded;
    }
    if let Ok(decimals @ 1..) = usize::try_from(2 - exponent) {
        return format!("{value:.decimals$}");
    }
    let whole = rounded.parse::<f64>().unwrap_or(value);
    let sign = if whole < 0.0 { "-" } else { "" };
    format!("{sign}{}", thousands(whole.abs() as u64))
}

/// A count with a thin space (U+2009) every three digits: `12 345`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + 6);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// A duration given in nanoseconds, in the unit that reads best: `410 ms`, `6.24 s`, `12 min 5 s`, `3 h 7 min`.
pub fn duration(ns: u64) -> String {
    const MINUTE: u64 = 60;
    let seconds = ns as f64 / 1e9;
    let whole = (seconds.round()) as u64;
    match ns {
        0 => "0 s".into(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", significant(ns as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", significant(ns as f64 / 1e6)),
        _ if whole < 2 * MINUTE => format!("{} s", significant(seconds)),
        _ if whole < 120 * MINUTE => format!("{} min {} s", whole / MINUTE, whole % MINUTE),
        _ => format!(
            "{} h {} min",
            whole / (60 * MINUTE),
            whole / MINUTE % MINUTE
        ),
    }
}

/// A share between 0 and 1 as a percentage: `78.3 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", significant(share * 100.0))
}

/// A value with its unit; sizes in bytes get binary prefixes.
pub fn quantity(value: f64, unit: &str) -> String {
    if unit != "bytes" {
        return format!("{} {unit}", significant(value))
            .trim_end()
            .to_owned();
    }
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value;
    let mut index = 0;
    while scaled.abs() >= 1024.0 && index + 1 < units.len() {
        scaled /= 1024.0;
        index += 1;
    }
    format!("{} {}", significant(scaled), units[index])
}

/// `1 kill`, `3 kills`; the plural is given for words that need one.
pub fn plural(n: usize, one: &str, many: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{} {many}", thousands(n as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        for (value, text) in [
            (0.0, "0"),
            (6.236, "6.24"),
            (9.999, "10.0"),
            (99.96, "100"),
            (0.001_234, "0.00123"),
            (0.000_999_9, "0.00100"),
            (123.4, "123"),
            (1_849.0, "1\u{2009}850"),
            (-12.34, "-12.3"),
            (f64::NAN, "not a number"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }

    #[test]
    fn durations_name_the_unit_that_reads_best() {
        for (ns, text) in [
            (0, "0 s"),
            (999, "999 ns"),
            (160_000_000, "160 ms"),
            (6_236_000_000, "6.24 s"),
            (725_000_000_000, "12 min 5 s"),
            (11_220_000_000_000, "3 h 7 min"),
        ] {
            assert_eq!(duration(ns), text);
        }
        assert_eq!(quantity(1536.0, "bytes"), "1.50 KiB");
    }
}
