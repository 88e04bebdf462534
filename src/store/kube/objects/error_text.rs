//! What a server or an object says, as it may stand in an error.

/// The server's words on one line, without those that runtimes take for the
/// success of a DEL.
pub(crate) fn plain(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    line.replace("not found", "missing").replace("no such file or directory", "missing").trim().to_owned()
}
