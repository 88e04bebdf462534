//! The text of a page, and the parts that all pages share.
//!
//! Names come from everyone who can write an object. Only words of this program reach a page as
//! HTML: [`Html::raw`] takes nothing else. Everything else goes through [`Html::text`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::{Display, Write};

/// The only stylesheet. Its hash is in the policy, so no other style has an effect.
const STYLE: &str = include_str!("style.css");

/// A page, or a part of one, while it is written.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// What the frame of a page says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The way from the page up to `/`, such as `../../`. A page may be behind a proxy that adds a
    /// prefix to each path, so no link begins with `/`.
    pub(super) up: &'a str,
    /// What the page is about.
    pub(super) title: &'a str,
    /// What was searched for.
    pub(super) searched: &'a str,
    /// Whether this replica writes.
    pub(super) leading: bool,
}

impl Html {
    /// Adds HTML.
    pub(super) fn raw(&mut self, html: &'static str) -> &mut Self {
        self.0.push_str(html);
        self
    }

    /// Adds text. Characters that mean something in HTML, also in attributes, are escaped.
    /// Characters that cannot be seen are replaced: they could change what the text around them
    /// looks like.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Only a writer can fail, and this one does not.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// Adds a name that others have chosen. Letters that are written from right to left do not
    /// change the order of the text around it.
    pub(super) fn name(&mut self, name: impl Display) -> &mut Self {
        self.raw("<bdi>").text(name).raw("</bdi>")
    }

    /// Adds another part.
    pub(super) fn part(&mut self, part: &Self) -> &mut Self {
        self.0.push_str(&part.0);
        self
    }

    /// Returns the whole page around this part.
    #[must_use]
    pub(super) fn framed(&self, frame: &Frame<'_>) -> String {
        let mut page = Self(String::with_capacity(self.0.len() + STYLE.len() + 4096));
        page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
        page.text(frame.title).raw(" - hereabouts</title>\n<style>").raw(STYLE);
        page.raw("</style>\n</head>\n<body>\n<header>\n<a class=\"home\" href=\"");
        page.text(frame.up).raw("./\">hereabouts</a>\n<nav>");
        for (path, name) in
            [("./", "Pools"), ("overlaps", "Overlaps"), ("leaks", "Leak candidates")]
        {
            page.raw("<a href=\"").text(frame.up).raw(path).raw("\">").raw(name).raw("</a> ");
        }
        page.raw("</nav>\n");
        page.raw("<form role=\"search\" action=\"").text(frame.up).raw("search\">");
        page.raw("<input type=\"search\" name=\"q\" maxlength=\"300\" ");
        page.raw("aria-label=\"Address, subnet, pod, node, claim or pool\" ");
        page.raw("placeholder=\"Address, subnet, pod, node, claim\" value=\"");
        page.text(frame.searched).raw("\"><button>Search</button></form>\n</header>\n<main>\n<h1>");
        page.name(frame.title).raw("</h1>\n").part(self);
        page.raw("</main>\n<footer>hereabouts-controller ").text(env!("CARGO_PKG_VERSION"));
        page.raw(match frame.leading {
            true => ". This replica writes.",
            false => ". Another replica writes. This one only watches, and shows the same.",
        });
        page.raw("</footer>\n</body>\n</html>\n");
        page.0
    }
}

/// Returns the policy for browsers: nothing but this page, its stylesheet and its form.
#[must_use]
pub(super) fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other if other.is_control() || is_invisible(other) => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// Returns whether a character only changes how others are shown.
const fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Returns a number with a comma between groups of three digits.
#[must_use]
pub(super) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if 0 < at && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number with the word for what is counted, in the singular or the plural.
#[must_use]
pub(super) fn counted(number: u128, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_html() {
        let mut html = Html::default();
        html.text("<script>\"a\" & 'b'</script>\u{202e}\0\n");
        assert_eq!(
            html.0,
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;\u{fffd}\u{fffd}\u{fffd}"
        );
        let frame = Frame { up: "", title: "<b>", searched: "\"><i>", leading: true };
        let page = Html::default().framed(&frame);
        assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1000, 65_536, 1 << 64].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "65,536", "18,446,744,073,709,551,616"]);
        assert_eq!(counted(1, "address", "addresses"), "1 address");
        assert_eq!(counted(2000, "address", "addresses"), "2,000 addresses");
    }
}
