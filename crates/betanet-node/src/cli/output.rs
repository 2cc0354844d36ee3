//! What the program says: results on standard output, everything else on standard error.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, Write};

use betanet_node::authority::AuthorityError;
use betanet_node::bind::BindError;
use betanet_node::client::ClientError;
use betanet_node::daemon::DaemonError;
use betanet_node::localnet::LocalnetError;
use betanet_node::state::StateError;
use serde::Serialize;
use serde_json::json;

use super::streams::write_output;

/// How a command can end early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Ctrl-C.
    Interrupted,
    /// It was asked for what cannot be; one line for people.
    Usage(String),
    /// It did not work; one line for people.
    Error(String),
}

impl Failure {
    /// The exit code of the program.
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Error(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }

    /// Says it: to people, and to the program that reads JSON.
    pub(super) fn tell(&self, json: bool) {
        let (Self::Usage(message) | Self::Error(message)) = self else {
            return;
        };
        complain(message);
        if json {
            // Where this cannot be written, the exit code is left.
            let _ =
                line(true, &json!({"event": "error", "message": message}), &"").and_then(|line| write_output(&line));
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(err: E) -> Self {
        if is_wrong_usage(&err) { Self::Usage(err.to_string()) } else { Self::Error(err.to_string()) }
    }
}

/// Whether something else has to be typed: no other state of the machine or the network would do.
fn is_wrong_usage(err: &(dyn Error + 'static)) -> bool {
    let state = |err: &StateError| matches!(err, StateError::TooLarge { .. } | StateError::Unnamed);
    let bind = |err: &BindError| {
        matches!(err, BindError::Unreachable { .. } | BindError::AnyPort { .. } | BindError::Loopback { .. })
    };
    if let Some(err) = err.downcast_ref() {
        return state(err);
    }
    if let Some(err) = err.downcast_ref() {
        return match err {
            ClientError::State(err) => state(err),
            ClientError::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput)
            }
            _ => false,
        };
    }
    if let Some(err) = err.downcast_ref() {
        return match err {
            DaemonError::State(err) => state(err),
            DaemonError::Bind(err) => bind(err),
            DaemonError::Descriptor(_) => true,
            _ => false,
        };
    }
    if let Some(err) = err.downcast_ref() {
        return match err {
            AuthorityError::State(err) => state(err),
            AuthorityError::Bind(err) => bind(err),
            AuthorityError::Settings(_) | AuthorityError::Token(_) | AuthorityError::EpochLength { .. } => true,
            _ => false,
        };
    }
    match err.downcast_ref() {
        Some(LocalnetError::State(err)) => state(err),
        Some(LocalnetError::TooSmall) => true,
        _ => false,
    }
}

/// A result as one line of JSON or as text.
///
/// # Errors
/// It cannot be put into JSON.
pub(super) fn line(json: bool, value: &impl Serialize, text: &impl Display) -> io::Result<Vec<u8>> {
    let line = if json { serde_json::to_string(value)? } else { text.to_string() };
    Ok(format!("{line}\n").into_bytes())
}

/// Writes a result; `what` it is, for the message if it is lost.
///
/// # Errors
/// It could not be written.
pub(super) async fn tell(
    json: bool,
    value: &impl Serialize,
    text: &impl Display,
    what: impl Display,
) -> Result<(), Failure> {
    hand_over(line(json, value, text)?)
        .await
        .map_err(|err| Failure::Error(format!("cannot write {what} to standard output: {err}")))
}

/// Writes what exists nowhere else once it was written. Ctrl-C ends the wait for a reader that
/// does not read.
///
/// # Errors
/// It could not be written.
pub(super) async fn hand_over(line: Vec<u8>) -> io::Result<()> {
    tokio::task::spawn_blocking(move || write_output(&line)).await?
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

/// Writes one line about what went wrong, whatever stands in the names that it quotes.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "betanet: {}", OneLine(message.as_bytes()));
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
