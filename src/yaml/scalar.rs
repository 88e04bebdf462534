//! The types of YAML scalars, as kubectl reads them: those of YAML 1.1, with Go's spellings of
//! numbers.

use crate::json::Json;
use serde_json::Number;

/// The prefix of the tags that YAML itself defines.
const CORE: &str = "tag:yaml.org,2002:";

/// Returns the value of a scalar. Only a plain scalar without a tag has a type other than a string.
///
/// # Errors
/// Fails for a value that JSON cannot hold.
pub(super) fn resolve(
    text: String,
    tag: Option<&str>,
    is_plain: bool,
) -> Result<Json, &'static str> {
    let wants_type = match tag {
        None => is_plain,
        Some(tag) => tag.strip_prefix(CORE).is_some_and(|kind| kind != "str" && kind != "binary"),
    };
    if !wants_type {
        return Ok(Json::String(text));
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Ok(Json::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Ok(Json::Bool(true))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Ok(Json::Bool(false))
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => Err("expected a number that JSON can hold"),
        _ => Ok(number(&text).map_or(Json::String(text), Json::Number)),
    }
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let text = text.replace('_', "");
    integer(&text).or_else(|| float(&text))
}

/// Parses an integer of Go: decimal, 0x, 0o or 0 (octal), 0b.
fn integer(text: &str) -> Option<Number> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(two) if two.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    match (is_negative, i64::try_from(value)) {
        (false, _) => Some(value.into()),
        (true, Ok(value)) => Some((-value).into()),
        (true, Err(_)) => (value == 1 << 63).then(|| i64::MIN.into()),
    }
}

fn float(text: &str) -> Option<Number> {
    let allowed = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    if !text.chars().all(allowed) {
        return None;
    }
    let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use expect_test::expect;

    /// What `kubectl label --local -f` v1.35 makes of the same texts.
    #[test]
    fn plain_scalars() {
        let texts = [
            "on",
            "y",
            "No",
            "TRUE",
            "tRUE",
            "010",
            "1_000",
            "0o7",
            "1:20",
            "~",
            "",
            "2001-01-01",
            "0x1F",
            "-0x1f",
            "1e3",
            "0b11",
            "+5",
            ".5",
            "1.",
            "09",
            "99999999999999999999",
            "1e400",
            "1_0.5",
            "=",
            "-",
            "10.0.0.1",
            "0x",
            "1.5e",
            "-9223372036854775808",
            "-+5",
            "..",
        ];
        let read: Vec<String> = texts
            .iter()
            .map(|text| resolve((*text).to_owned(), None, true).unwrap().excerpt())
            .collect();
        expect![[r#"true true false true "tRUE" 8 1000 7 "1:20" null null "2001-01-01" 31 -31 1000.0 3 5 0.5 1.0 9.0 1e+20 "1e400" 10.5 "=" "-" "10.0.0.1" "0x" "1.5e" -9223372036854775808 "-+5" "..""#]]
        .assert_eq(&read.join(" "));
        assert!(resolve(".inf".to_owned(), None, true).is_err());
    }

    #[test]
    fn quoted_and_tagged_scalars() {
        let of = |text: &str, tag: Option<&str>, is_plain| {
            resolve(text.to_owned(), tag, is_plain).unwrap().excerpt()
        };
        assert_eq!(of("5", None, false), "\"5\"");
        assert_eq!(of("5", Some("!x"), true), "\"5\"");
        assert_eq!(of("5", Some("tag:yaml.org,2002:str"), true), "\"5\"");
        assert_eq!(of("5", Some("tag:yaml.org,2002:int"), false), "5");
    }
}
