//! The full help of the program and of every command: tests/data/help has a file for each, which
//! `UPDATE_EXPECT=1` renews. The commands come from clap, so that a new command without a file
//! fails.

use crate::support::sandbox::{Call, Ended};
use crate::support::transcript::{assert_file, files_in};

/// Returns the words of every command, including hidden ones.
fn commands() -> Vec<Vec<String>> {
    fn add(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
        found.push(words.to_vec());
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            add(inner, &[words, &[inner.get_name().to_owned()]].concat(), found);
        }
    }
    let mut found = Vec::new();
    add(&hereabouts::cli::command(), &[], &mut found);
    found
}

fn file_of(words: &[String]) -> String {
    if words.is_empty() { "hereabouts".to_owned() } else { words.join("-") }
}

fn run(words: &[String], option: &str) -> Ended {
    let mut call = Call::bare();
    call.args = words.iter().cloned().chain([option.to_owned()]).collect();
    call.run()
}

#[test]
fn every_command_has_this_help() {
    for words in commands() {
        let (short, long) = (run(&words, "-h"), run(&words, "--help"));
        for ended in [&short, &long] {
            assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{words:?}");
        }
        let called = [vec!["hereabouts".to_owned()], words.clone()].concat().join(" ");
        let mut text = String::new();
        if short.stdout != long.stdout {
            text.push_str(&format!("$ {called} -h\n{}\n", short.stdout));
        }
        text.push_str(&format!("$ {called} --help\n{}", long.stdout));
        assert_file(&format!("help/{}.txt", file_of(&words)), &text);
    }
}

#[test]
fn no_help_is_kept_of_a_command_that_is_gone() {
    let mut known: Vec<String> = commands().iter().map(|words| file_of(words)).collect();
    known.push("without-arguments".to_owned());
    known.sort();
    assert_eq!(files_in("help"), known);
}

/// What an operator sees who starts the plugin by hand.
#[test]
fn without_arguments_it_prints_this() {
    let ended = Call::bare().run();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""));
    let version = format!("v{}\n", env!("CARGO_PKG_VERSION"));
    assert_file("help/without-arguments.txt", &ended.stderr.replacen(&version, "vVERSION\n", 1));
}
