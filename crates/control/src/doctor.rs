//! What this host is, in words.
use std::collections::BTreeMap;

/// What a run records of its host.
pub fn host_words() -> BTreeMap<String, String> {
    BTreeMap::new()
}
