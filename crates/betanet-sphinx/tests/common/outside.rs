//! Vectors of other projects, which are not part of this repository.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The cases of a file that is one list, in the folder of outside vectors.
#[allow(dead_code, reason = "each test program uses a part of this file")]
pub(crate) fn cases(name: &str) -> Option<Vec<Value>> {
    document(name).map(|document| document.as_array().unwrap().clone())
}

/// A file in the folder of outside vectors: named by FOG_VECTORS, or `shared/vectors` beside the repository.
#[allow(clippy::explicit_write, reason = "the harness hides what a passing test prints through `eprintln!`")]
pub(crate) fn document(name: &str) -> Option<Value> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let folder = std::env::var_os("FOG_VECTORS").map_or(beside, PathBuf::from);
    let Ok(text) = std::fs::read(folder.join(name)) else {
        let mut err = std::io::stderr();
        writeln!(err, "SKIPPED: {name} is not in the folder of outside vectors (set FOG_VECTORS)").unwrap();
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

/// The bytes behind a hexadecimal string.
#[allow(dead_code, reason = "each test program uses a part of this file")]
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}
