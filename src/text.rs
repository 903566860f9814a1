//! Untrusted text, made fit to be shown.

use std::fmt::Write;

/// What may be shown of a text that a peer chose: one line, cut at 64 characters.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, 64)
}

/// A text on one line: control, format and unassigned characters escaped, cut after so many characters.
pub(crate) fn escaped(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for character in text.chars() {
        let escaped = escape(character);
        length += escaped.chars().count();
        if length > limit {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

/// The character, or its escape if it could move the cursor, hide, or reorder what stands around it.
fn escape(character: char) -> String {
    let mut escaped = String::new();
    // `Debug` escapes what Unicode calls not printable, bidirectional controls among it, but quotes as well.
    match character {
        '"' | '\'' => escaped.push(character),
        _ => escaped.extend(character.escape_debug()),
    }
    // Characters that are drawn, but as nothing.
    if matches!(character, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}') {
        escaped.clear();
        let _ = write!(escaped, "{}", character.escape_unicode());
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_disturb_a_terminal_or_a_log_is_escaped_and_the_rest_is_not() {
        assert_eq!(printable("Geth/v1.17 'ü' \"x\""), "Geth/v1.17 'ü' \"x\"");
        assert_eq!(printable("a\nb\x1b[31m\u{202e}\u{3164}"), "a\\nb\\u{1b}[31m\\u{202e}\\u{3164}", "H81");
        assert_eq!(printable(&"x".repeat(65)), "x".repeat(64) + "…", "H81");
    }
}
