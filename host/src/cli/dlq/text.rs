//! Texts of letters on their way to a terminal: a letter's message, key and value are whatever a plugin or a stranger wrote.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dead_letters::groups::Key;

/// Characters of what stands on one line among others.
const LINE_MAX: usize = 120;

/// Text without what a terminal would act on; lines stay lines.
pub(super) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => safe.push(character),
            // Also what makes text read from the wrong side, so that it seems to say something else.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.extend(character.escape_unicode());
            }
            character if character.is_control() => safe.extend(character.escape_default()),
            character => safe.push(character),
        }
    }
    safe
}

/// The beginning of a text, on one line.
pub(super) fn line(text: &str) -> String {
    let one = safe(text).replace('\n', "\\n").replace('\t', "\\t");
    match one.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}…", &one[..end]),
        None => one,
    }
}

/// Bytes as text where they are, whole.
pub(super) fn whole(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => safe(text),
        Err(_) => format!("base64 {}", STANDARD.encode(bytes)),
    }
}

/// Bytes as text where they are, the beginning of them on one line. `cut` says that there are more.
pub(super) fn brief(bytes: &[u8], cut: bool) -> String {
    let text = line(&match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => whole(bytes),
    });
    if cut && !text.ends_with('…') { format!("{text}…") } else { text }
}

/// A time, as people read it.
pub(super) fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds).map_or_else(|_| milliseconds.to_string(), |time| time.to_string())
}

/// `1 letter`, `2 letters`
pub(super) fn letters(count: u64) -> String {
    if count == 1 { "1 letter".to_owned() } else { format!("{count} letters") }
}

/// What failed, in a line: route, plugin and kind.
pub(super) fn cause(key: &Key) -> String {
    let plugin = key
        .plugin
        .as_ref()
        .map(|(name, version)| format!(", plugin {}@{}", line(name), line(version.get(..8).unwrap_or(version))));
    format!("route {}{}, {}", line(&key.route), plugin.unwrap_or_default(), line(&key.kind))
}

/// Lines after the first, and all of them, stand under each other.
pub(super) fn indented(text: &str, indent: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_a_letter() {
        assert_eq!(safe("plain äß, two\nlines\tand a tab"), "plain äß, two\nlines\tand a tab");
        assert_eq!(safe("\u{1b}[2Jgone\r\u{7}\u{9b}\u{202e}"), "\\u{1b}[2Jgone\\r\\u{7}\\u{9b}\\u{202e}");
        assert_eq!(line("two\nlines\tand \u{1b}"), "two\\nlines\\tand \\u{1b}");
        assert_eq!(line(&"ä".repeat(LINE_MAX)), "ä".repeat(LINE_MAX));
        assert_eq!(line(&"ä".repeat(LINE_MAX + 1)), format!("{}…", "ä".repeat(LINE_MAX)));
        assert_eq!(whole(b"\xff\x00"), "base64 /wA=");
        assert_eq!((brief(b"abc", false), brief(b"abc", true)), ("abc".to_owned(), "abc…".to_owned()));
    }
}
