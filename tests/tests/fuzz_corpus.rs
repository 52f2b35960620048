//! The committed corpus of the fuzz targets, replayed: every input that once failed, and the seeds.

#[expect(
    clippy::expect_used,
    reason = "what must hold of an input is said by panicking, as libFuzzer wants it"
)]
#[path = "../../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, body) in bodies::TARGETS {
        let folder = root.join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).expect("a corpus") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("an input");
            // The name stands above a panic's own words.
            println!("{}", path.display());
            body(&bytes);
            // Beginnings of it too: what was cut off in mid-word.
            for cut in 1..32 {
                body(&bytes[..bytes.len() * cut / 32]);
            }
            inputs += 1;
        }
        assert!(inputs >= 3, "{name} has {inputs} inputs");
    }
}
