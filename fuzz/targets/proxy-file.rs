#![no_main]

#[allow(dead_code, reason = "each target uses its own part")]
#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::proxy::proxy_file(bytes));
