//! Every error as text, in full: what the caller of the protocol reads (message, details, code) and
//! what the operator reads. There is one file below tests/data/messages for each type, which
//! `UPDATE_EXPECT=1` renews. A variant without a case fails.

/// What is wrong with a configuration.
mod configuration;
/// What a file store and the command line report about damages and doubts.
mod findings;
/// The protocol itself.
mod protocol;
/// Why a verb failed, except for the store.
mod verbs;

mod stores;

use crate::support::transcript::assert_file;
use hereabouts::cni::CniError;

/// Lists the variants of an enum, and returns the name of a value: a new variant does not compile
/// until it is listed, and fails until it has a case.
macro_rules! variants {
    ($enum:path: $($variant:ident)*) => {
        {
            use $enum as Enum;
            fn name_of(value: &Enum) -> &'static str {
                match value { $(Enum::$variant { .. } => stringify!($variant),)* }
            }
            (&[$(stringify!($variant)),*][..], name_of as fn(&Enum) -> &'static str)
        }
    };
}
use variants;

/// Compares texts with `tests/data/messages/<name>.txt`. Each text belongs to a variant, and every
/// variant has one.
fn assert_all(name: &str, variants: &[&str], cases: &[(&str, String)]) {
    for variant in variants {
        assert!(cases.iter().any(|(of, _)| of == variant), "{name}: no case for {variant}");
    }
    let text: String =
        cases.iter().map(|(of, text)| format!("{of}\n{}\n", indented(text))).collect();
    // Runtimes take these words for the success of a DEL.
    for words in ["not found", "no such file or directory"] {
        assert!(!text.to_lowercase().contains(words), "{text}");
    }
    assert_file(&format!("messages/{name}.txt"), &text);
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Returns what the caller of the protocol gets.
fn document(error: &CniError) -> String {
    format!("{}: {}\n{}", error.code.number(), error.msg, error.details)
}
