//! What the targets begin with.

use std::path::Path;

/// Puts inputs where libFuzzer looks for them when it has begun.
pub fn seeds(target: &str, inputs: &[Vec<u8>]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    std::fs::create_dir_all(&corpus).expect("the folder of the corpus");
    for (number, input) in inputs.iter().enumerate() {
        std::fs::write(corpus.join(format!("seed-{number}")), input).expect("a seed");
    }
}
