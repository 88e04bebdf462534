//! Explains why a text is not JSON: shows the text at the place, and what was probably intended.
//!
//! The text of a network is often inside YAML, which folds its lines. A line and a column of the
//! folded text lead nowhere, so the error shows the text itself.

use super::shape;
use crate::config::ConfigError;
use crate::json::excerpt;

/// The number of characters to show before and after the place.
const AROUND: usize = 24;

/// Returns the error for a text that is not JSON.
pub(super) fn malformed(place: &str, text: &str, error: &serde_json::Error) -> ConfigError {
    let at = offset(text, error.line(), error.column());
    let before: String = text[..at].chars().rev().take(AROUND).collect();
    let before: String = before.chars().rev().collect();
    let after: String = text[at..].chars().take(AROUND).collect();
    let found = if text.trim().is_empty() {
        String::new()
    } else {
        format!("; found {}", excerpt(&format!("{before}{after}")))
    };
    let shown = shape(place, &format!("expected JSON: {error}{found}"));
    match advice(&before, &after) {
        Some(hint) => shown.with_hint(hint),
        None => shown,
    }
}

/// Returns the byte offset of a line and a column of serde_json, which counts bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn advice(before: &str, after: &str) -> Option<&'static str> {
    let is_curly =
        |c: char| matches!(c, '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{2019}');
    let next = after.trim_start();
    let nearby = format!("{before}{after}");
    if nearby.contains(is_curly) {
        return Some("replace typographic quotes with \"");
    }
    if next.starts_with('#') || next.starts_with("//") || next.starts_with("/*") {
        return Some("remove the comment: JSON has none");
    }
    if next.starts_with('\'') {
        return Some("replace ' with \": JSON has no other quotes");
    }
    if next.starts_with(['}', ']']) && before.trim_end().ends_with(',') {
        return Some("remove the comma before the bracket");
    }
    if nearby.contains("{{") {
        return Some("check what the template renders, for example with \"helm template\"");
    }
    None
}
