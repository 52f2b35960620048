//! Embeddings with their numbers changed, as lists and in base64 alike.

use crate::mock::base64;
use serde_json::{Value, json};

/// What stands for a number that is none until the answer is written: JSON has no word for it.
const NAN: &str = "squall:nan";

/// How vectors are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// Half as many numbers.
    Shorter,
    /// Twice as many numbers.
    Longer,
    /// All numbers are zero.
    Zero,
    /// The first number is none.
    Nan,
    /// Each text gets the vector of the next one; the only one has its numbers reversed.
    Permuted,
}

/// Changes the vectors of an answer in OpenAI's shape. False when it holds none.
pub fn vectors(answer: &mut Value, how: Vectors) -> bool {
    let Some(data) = answer["data"].as_array_mut() else {
        return false;
    };
    let mut all: Vec<Value> = data.iter_mut().map(|one| one["embedding"].take()).collect();
    let mut changed = false;
    if how == Vectors::Permuted && all.len() > 1 {
        let before = all.clone();
        all.rotate_left(1);
        changed = all != before;
    } else {
        for vector in &mut all {
            changed |= one(vector, how);
        }
    }
    for (entry, vector) in data.iter_mut().zip(all) {
        entry["embedding"] = vector;
    }
    changed
}

fn one(vector: &mut Value, how: Vectors) -> bool {
    let coded = vector.as_str().and_then(read);
    let listed = || -> Option<Vec<f32>> {
        let numbers = vector.as_array()?.iter();
        numbers
            .map(|number| number.as_f64().map(|number| number as f32))
            .collect()
    };
    let Some(mut numbers) = coded
        .clone()
        .or_else(listed)
        .filter(|numbers| !numbers.is_empty())
    else {
        return false;
    };
    match how {
        Vectors::Shorter => numbers.truncate(numbers.len() / 2),
        Vectors::Longer => numbers.extend(numbers.clone()),
        Vectors::Zero => numbers.fill(0.0),
        Vectors::Nan => numbers[0] = f32::NAN,
        Vectors::Permuted => numbers.reverse(),
    }
    *vector = match coded {
        Some(_) => json!(base64(
            &numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>()
        )),
        None => {
            let written = |number: &f32| {
                if number.is_nan() {
                    json!(NAN)
                } else {
                    json!(number)
                }
            };
            numbers.iter().map(written).collect()
        }
    };
    true
}

/// The answer as it is written: a number that is none as Python's services write it.
pub fn written(answer: &Value) -> String {
    answer.to_string().replace(&format!("\"{NAN}\""), "NaN")
}

/// Little-endian numbers in base64.
fn read(text: &str) -> Option<Vec<f32>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(six), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    let numbers = bytes.chunks_exact(4);
    numbers.remainder().is_empty().then(|| {
        numbers
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::embeddings;

    fn changed(how: Vectors, format: &str, inputs: &[&str]) -> (Value, Value) {
        let asked = json!({"input": inputs, "encoding_format": format, "model": "m"});
        let before = embeddings(&asked, 8).expect("it is a request");
        let mut after = before.clone();
        assert!(vectors(&mut after, how), "{how:?} {format}");
        (before, after)
    }

    fn numbers(answer: &Value, at: usize) -> Vec<f32> {
        let vector = &answer["data"][at]["embedding"];
        match vector.as_str() {
            Some(text) => read(text).expect("base64"),
            None => {
                let all = vector.as_array().expect("a list").iter();
                all.map(|one| one.as_f64().map_or(f32::NAN, |number| number as f32))
                    .collect()
            }
        }
    }

    #[test]
    fn vectors_are_changed_in_both_forms() {
        for format in ["float", "base64"] {
            let length = |how| numbers(&changed(how, format, &["a", "b"]).1, 1).len();
            assert_eq!([length(Vectors::Shorter), length(Vectors::Longer)], [4, 16]);
            assert_eq!(
                numbers(&changed(Vectors::Zero, format, &["a"]).1, 0),
                [0.0; 8]
            );
            let (before, after) = changed(Vectors::Permuted, format, &["a", "b", "c"]);
            assert_eq!(numbers(&after, 0), numbers(&before, 1));
            assert_eq!(numbers(&after, 2), numbers(&before, 0));
            assert_eq!(after["data"][2]["index"], 2);
            let (before, after) = changed(Vectors::Permuted, format, &["a"]);
            let mut back = numbers(&after, 0);
            back.reverse();
            assert_eq!(back, numbers(&before, 0));
            let (_, after) = changed(Vectors::Nan, format, &["a"]);
            assert!(numbers(&after, 0)[0].is_nan() && !numbers(&after, 0)[1].is_nan());
        }
        let (_, after) = changed(Vectors::Nan, "float", &["a"]);
        assert!(
            written(&after).contains("\"embedding\":[NaN,"),
            "{}",
            written(&after)
        );
        assert!(!vectors(
            &mut json!({"data": [{"embedding": "!!"}]}),
            Vectors::Zero
        ));
        assert!(!vectors(&mut json!({"data": []}), Vectors::Permuted));
    }
}
