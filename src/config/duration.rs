//! Parses durations with units, such as "500ms" or "1h 30m".

use std::time::Duration;

/// Parses a duration, one number with its unit at a time.
///
/// `humantime` would add up the numbers itself. It panics if the sum is exactly the longest
/// possible duration plus one second in nanoseconds.
///
/// # Errors
/// Returns what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, humantime::DurationError> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    loop {
        let (term, after) = rest.split_at(end_of_term(rest));
        let term = humantime::parse_duration(term)?;
        sum = sum.checked_add(term).ok_or(humantime::DurationError::NumberOverflow)?;
        if after.trim().is_empty() {
            return Ok(sum);
        }
        rest = after;
    }
}

/// Returns the end of the first number with its unit, which is before the first digit that follows
/// a letter.
fn end_of_term(text: &str) -> usize {
    let mut has_unit = false;
    let next = text.char_indices().find(|(_, letter)| {
        has_unit |= letter.is_alphabetic();
        has_unit && letter.is_ascii_digit()
    });
    next.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_humantime_reads() {
        for text in [
            "10s",
            "500ms",
            "1h30m",
            "1h 30m ",
            " 2days  5 us",
            "1.5s",
            "4.2s 1m",
            "0",
            "",
            " ",
            "5",
            "s",
            "1h 5",
            "1x",
            "-1s",
            "1s;",
        ] {
            assert_eq!(parse_duration(text).ok(), humantime::parse_duration(text).ok(), "{text}");
        }
    }

    /// Cause: the sum exceeded the longest possible duration. Effect: a panic, code 999. Fix: each
    /// number is parsed alone, and the addition is checked.
    #[test]
    fn no_sum_is_a_panic() {
        for text in [
            "18446744073709551615s 1000ms",
            "18446744073709551615s 1000000000ns",
            "18446744073709551615s 1s",
            "99999999999y",
        ] {
            let read = parse_duration(text);
            assert!(read.is_err() || text.ends_with('y'), "{text}: {read:?}");
        }
        assert_eq!(
            parse_duration("18446744073709551615s 999ms").map(|sum| sum.as_secs()),
            Ok(u64::MAX)
        );
    }
}
