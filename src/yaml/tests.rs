//! What is read as what, what is refused, and that nothing stops the process.

use super::{Documents, YamlError};
use crate::json::Json;

fn read(text: &str) -> Result<Vec<Json>, YamlError> {
    Documents::new(text, 1000).collect()
}

/// Compares with the same documents in JSON.
fn same(text: &str, json: &[&str]) {
    let expected: Vec<Json> =
        json.iter().map(|json| Json::parse(json.as_bytes()).unwrap()).collect();
    assert_eq!(read(text).unwrap(), expected, "{text}");
}

#[test]
fn a_quoted_scalar_may_end_at_or_left_of_its_key() {
    same(
        "spec:\n  config: '{\n    \"a\": 1,\n\t\"b\": 2\n  }'\n",
        &[r#"{"spec":{"config":"{ \"a\": 1, \"b\": 2 }"}}"#],
    );
    same(
        "spec:\n  config: '{\n \"a\": 1\n\n}'\nx: 1\n",
        &[r#"{"spec":{"config":"{ \"a\": 1\n}"},"x":1}"#],
    );
    same(
        "spec:\n  config: \"{\n\t\\\"a\\\": \\\n 1\n}\"\n",
        &[r#"{"spec":{"config":"{ \"a\": 1 }"}}"#],
    );
}

#[test]
fn documents_and_comments() {
    same(
        "# one\n---\na: 1 # here\n--- # two\n\n---\nb: |\n  x\n  # text\n...\n",
        &[r#"{"a":1}"#, "null", r##"{"b":"x\n# text\n"}"##],
    );
    same("", &[]);
    same("\u{feff}a: [1, {b: ~}]\r\nc: 'it''s'\r\n", &[r#"{"a":[1,{"b":null}],"c":"it's"}"#]);
}

#[test]
fn aliases_merges_and_repeated_keys() {
    same("a: &x {b: 1}\nc: *x\n", &[r#"{"a":{"b":1},"c":{"b":1}}"#]);
    same(
        "a: &x {b: 1, c: 2}\nd: {<<: [{b: 3}, *x], c: 4}\n",
        &[r#"{"a":{"b":1,"c":2},"d":{"b":3,"c":4}}"#],
    );
    same("a: 1\nb: 2\na: 3\n", &[r#"{"a":3,"b":2}"#]);
    let many: String = (0..40).map(|n| format!("k{n}: 1\n")).collect();
    let read = read(&format!("{many}k7: 2\n")).unwrap();
    assert_eq!((read[0].entries().len(), read[0].entries()[7].1.excerpt()), (40, "2".to_owned()));
    assert!(self::read("a: &x [*x]\n").is_err());
}

#[test]
fn no_text_needs_more_than_its_share() {
    assert!(matches!(read(&"- 1\n".repeat(1000)), Err(YamlError::TooMany { most: 1000 })));
    assert!(read(&format!("{}{}", "[".repeat(127), "]".repeat(127))).is_ok());
    assert!(read(&"[".repeat(2_000_000)).is_err());
    let bomb: String =
        (1..30).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
    let error = read(&format!("a0: &a0 x\n{bomb}")).unwrap_err().to_string();
    assert!(error.contains("8 MiB"), "{error}");
}

#[test]
fn errors_name_the_place() {
    for (text, expected) in [
        ("a: 1\n\tb: 2\n", "found a tab character that violates indentation (line 2, column 1)"),
        ("a:\n  - [!b,c]\n", "expected a space after a tag (line 2, column 6)"),
        ("? [a]\n: 1\n", "expected a key that is a text (line 1, column 3)"),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), expected);
    }
    for text in [
        "a: 'Hello!, you, !important'\n",
        "a: x !b, c\n",
        "a: \"x !b, c\"\n",
        "a: |\n  if (a || !b.has(t, c)) return !(d, e);\n",
        "# see !important, please\na: 1 # (!b, c)\n",
        "[a !b, c]\n",
    ] {
        assert!(read(text).is_ok(), "{text}");
    }
    for text in
        ["[&a !b, c]", "[*a !b, c]", "[!a !b, c]", "[\"a\" !b, c]", "[[a] !b, c]", "{a: !b, c: d}"]
    {
        assert!(read(text).is_err(), "{text}");
    }
}

/// The seeds of the texts below, with everything that has a meaning in YAML.
const SEEDS: [&str; 3] = [
    "a: &x {b: 'c', <<: *x}\n- [!t a, \"b\\x41\\n\"]\n? k\n: |2-\n   x\n>+\n  z\n%YAML 1.1\n%TAG ! t,a:\n---\n...\n",
    "spec:\n  config: '{\n\t\"a\": 1\n}'\nx: \"\\u00e9\\\n  y\"\n- - - a\n  - b: {c, d: e,}\n",
    "!<tag:x,y> a\n!!str b\n!e%41%c3%a9x c\n# c\n{a: [b, !c d, *e, &f g]}: h\n",
];

const ALPHABET: &str = "abc:,-?[]{}#&*!|>'\"%@` \n\t\r~<=.0x\\/\u{e9}\u{85}\u{2028}+_u14";

/// The parser has code that aborts the process. No text reaches it: three million texts of this kind
/// were tried.
#[test]
fn no_text_stops_the_process() {
    let alphabet: Vec<char> = ALPHABET.chars().collect();
    let mut state = 88_172_645_463_325_252_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let mut text: Vec<char> = SEEDS[draw(3)].chars().collect();
        if draw(4) == 0 {
            text = (0..draw(60)).map(|_| alphabet[draw(alphabet.len())]).collect();
        }
        for _ in 0..draw(8) {
            let at = draw(text.len() + 1);
            match draw(4) {
                0 => text.insert(at, alphabet[draw(alphabet.len())]),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = alphabet[draw(alphabet.len())],
                _ => {
                    let part = text[at..(at + draw(12)).min(text.len())].to_vec();
                    let to = draw(text.len() + 1);
                    text.splice(to..to, part);
                }
            }
        }
        let text: String = text.into_iter().collect();
        read += Documents::new(&text, 1000).filter(Result::is_ok).count();
    }
    assert!(2000 < read, "{read} documents are too few to say something");
    for end in ["\"\\", ">", "> #", "a: |", "'", "!a", "&a", "%"] {
        let _ = Documents::new(end, 1000).count();
    }
}
