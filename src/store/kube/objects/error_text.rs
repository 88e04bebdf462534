//! Texts of a server or an object, in the form in which an error may contain them.

/// Returns the server's text on one line, without the phrases that runtimes take for the success of
/// a DEL.
pub(crate) fn on_one_line(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    line.replace("not found", "missing")
        .replace("no such file or directory", "missing")
        .trim()
        .to_owned()
}
