//! Words of others as a line of bounded length, and words for people.

use std::time::Duration;

/// Characters of a line.
pub const LINE_LENGTH: usize = 400;

/// What is shown and kept of a text that somebody else wrote: one line, and as much of it as fits.
/// What was cut ends in `…`; control characters become spaces.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut shown = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let mut line: String = shown.by_ref().take(LINE_LENGTH - 1).collect();
    match (shown.next(), shown.next()) {
        (Some(last), None) => line.push(last),
        (Some(_), Some(_)) => line.push('…'),
        (None, _) => {}
    }
    line
}

/// A duration for people: `50 s`, `12 min`, `5 h`, `30 d`, to the nearest one, for a clock that was compared over a link
/// is off by some milliseconds either way.
#[must_use]
pub fn rough(time: Duration) -> String {
    let in_units = |unit: u64| time.as_secs().saturating_add(unit / 2) / unit;
    let seconds = time.saturating_add(Duration::from_millis(500)).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", in_units(60)),
        7_200..172_800 => format!("{} h", in_units(3_600)),
        _ => format!("{} d", in_units(86_400)),
    }
}

/// At most `max` bytes without control characters, so that a name can be printed.
#[must_use]
pub fn is_short(text: &str, max: usize) -> bool {
    text.len() <= max && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_only_what_was_cut_says_so() {
        for length in [0, 1, LINE_LENGTH - 1, LINE_LENGTH] {
            let whole = "ü".repeat(length);
            assert_eq!(whole, one_line(&whole));
        }
        for length in [LINE_LENGTH + 1, 100 * LINE_LENGTH] {
            let cut = one_line(&"ü".repeat(length));
            assert_eq!((LINE_LENGTH, true), (cut.chars().count(), cut.ends_with("ü…")));
        }
        assert_eq!("two lines  [2Jof it", one_line("two lines\n\u{1b}[2Jof it"));
    }
}
