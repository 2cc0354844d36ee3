//! What the program says: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// How a command can end early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Ctrl-C.
    Interrupted,
    /// One line for people.
    Error(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(err: E) -> Self {
        Self::Error(err.to_string())
    }
}

/// Writes a result, as one line of JSON or as text. A reader that is gone is no error.
pub(super) fn tell(json: bool, value: &impl Serialize, text: &impl Display) {
    let mut out = io::stdout().lock();
    let _ = if json {
        let line = serde_json::to_string(value).unwrap_or_default();
        writeln!(out, "{line}")
    } else {
        writeln!(out, "{text}")
    };
    let _ = out.flush();
}

/// Writes one line about what went wrong.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "betanet: {message}");
}
