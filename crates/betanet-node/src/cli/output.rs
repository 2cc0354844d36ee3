//! What the program says: results on standard output, everything else on standard error.

use std::fmt::{self, Display};
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
    let _ = hand_over(json, value, text);
}

/// [`tell`] for what exists nowhere else once it was told.
///
/// # Errors
/// It could not be written.
pub(super) fn hand_over(json: bool, value: &impl Serialize, text: &impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(value)?)?;
    } else {
        writeln!(out, "{text}")?;
    }
    out.flush()
}

/// Bytes as one line that does nothing to a terminal: control characters and what is no text are escaped.
pub(super) struct OneLine<'a>(pub(super) &'a [u8]);

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char.is_control() { write!(f, "{}", char.escape_default())? } else { write!(f, "{char}")? }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// Writes one line about what went wrong.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "betanet: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_does_nothing_to_a_terminal() {
        let shown = OneLine("\x1b]0;title\x07grüße\n\u{9b}2J".as_bytes()).to_string();
        assert_eq!(r"\u{1b}]0;title\u{7}grüße\n\u{9b}2J", shown);
        assert_eq!(r"\xff\x00a", OneLine(b"\xff\0a").to_string().replace(r"\u{0}", r"\x00"));
    }
}
