//! Words of others, as a line of bounded length.

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
