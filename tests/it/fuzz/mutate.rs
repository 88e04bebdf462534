//! Makes inputs from inputs: changes bytes, words, lines, numbers, and nodes of the JSON in them.
//! Everything is drawn from one number, so that a run can be repeated.

use serde_json::Value;

/// Longer inputs show nothing that shorter ones do not, and cost time.
const LONGEST: usize = 16 * 1024;

/// Numbers at common boundaries.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "-0",
    "0.5",
    "31",
    "32",
    "33",
    "127",
    "128",
    "129",
    "255",
    "256",
    "1e400",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
];

/// A stream of numbers (splitmix64).
pub(crate) struct Rng(u64);

impl Rng {
    /// Returns the stream of one input of a run.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Returns one input of the pool, changed in one to five places.
pub(crate) fn mutate(pool: &[Vec<u8>], words: &[&str], rng: &mut Rng) -> Vec<u8> {
    let mut input = pool[rng.below(pool.len())].clone();
    for _ in 0..=rng.below(5) {
        match rng.below(12) {
            0 => change_byte(&mut input, rng),
            1 => {
                let at = rng.below(input.len() + 1);
                input.splice(at..at, rng.pick(words).bytes());
            }
            2 => drop(input.drain(chunk(&input, rng))),
            3 => repeat(&mut input, rng),
            4 if rng.below(4) == 0 => input.truncate(rng.below(input.len() + 1)),
            4 | 5 => replace_number(&mut input, rng),
            6 => {
                let other = &pool[rng.below(pool.len())];
                let (at, from) = (rng.below(input.len() + 1), rng.below(other.len() + 1));
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 | 8 => change_lines(&mut input, pool, rng),
            _ => change_json(&mut input, words, rng),
        }
    }
    input.truncate(LONGEST);
    input
}

fn chunk(input: &[u8], rng: &mut Rng) -> std::ops::Range<usize> {
    let from = rng.below(input.len() + 1);
    let rest = input.len() - from;
    let most = if rng.below(3) == 0 { rest } else { rest.min(8) };
    let length = rng.below(most + 1);
    from..from + length
}

fn change_byte(input: &mut [u8], rng: &mut Rng) {
    let at = rng.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte = match rng.below(3) {
            0 => *byte ^ (1 << rng.below(8)),
            1 => *rng
                .pick(
                    &[b"\0", b"\"", b"\\", b"{", b"}", b"/", b":", b"\n", b"\x7f", b"\xff"]
                        .map(<[u8; 1]>::as_slice),
                )
                .first()
                .unwrap(),
            _ => u8::try_from(rng.below(256)).unwrap(),
        };
    }
}

fn repeat(input: &mut Vec<u8>, rng: &mut Rng) {
    let piece = input[chunk(input, rng)].to_vec();
    let times = if rng.below(8) == 0 { 200 } else { 1 };
    let at = rng.below(input.len() + 1);
    input.splice(at..at, piece.repeat(times.min(LONGEST / (piece.len() + 1))));
}

/// Replaces a run of digits by another number.
fn replace_number(input: &mut Vec<u8>, rng: &mut Rng) {
    let start = rng.below(input.len());
    let Some(from) = input.iter().skip(start).position(u8::is_ascii_digit).map(|at| start + at)
    else {
        return;
    };
    let length = input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = rng.pick(NUMBERS).to_owned();
    input.splice(from..from + length, number.bytes());
}

/// Removes, doubles or exchanges lines, or takes lines from another input.
fn change_lines(input: &mut Vec<u8>, pool: &[Vec<u8>], rng: &mut Rng) {
    let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (rng.below(lines.len()), rng.below(lines.len()));
    match rng.below(4) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one].clone()),
        2 => lines.swap(one, other),
        _ => {
            let others: Vec<&[u8]> =
                pool[rng.below(pool.len())].split(|byte| *byte == b'\n').collect();
            lines.insert(one, rng.pick(&others).to_vec());
        }
    }
    *input = lines.join(&b'\n');
}

/// Changes a line that is JSON as a tree.
fn change_json(input: &mut Vec<u8>, words: &[&str], rng: &mut Rng) {
    let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let documents: Vec<usize> =
        (0..lines.len()).filter(|at| lines[*at].first() == Some(&b'{')).collect();
    if documents.is_empty() {
        return change_byte(input, rng);
    }
    let at = documents[rng.below(documents.len())];
    let Ok(mut tree) = serde_json::from_slice::<Value>(&lines[at]) else {
        return change_byte(input, rng);
    };
    let mut countdown = rng.below(count(&tree));
    change_node(&mut tree, &mut countdown, words, rng);
    lines[at] = tree.to_string().into_bytes();
    *input = lines.join(&b'\n');
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the node at which the countdown ends. Returns whether it was reached.
fn change_node(tree: &mut Value, countdown: &mut usize, words: &[&str], rng: &mut Rng) -> bool {
    if *countdown == 0 {
        change_value(tree, words, rng);
        return true;
    }
    *countdown -= 1;
    match tree {
        Value::Array(items) => {
            items.iter_mut().any(|item| change_node(item, countdown, words, rng))
        }
        Value::Object(entries) => {
            entries.values_mut().any(|value| change_node(value, countdown, words, rng))
        }
        _ => false,
    }
}

fn change_value(value: &mut Value, words: &[&str], rng: &mut Rng) {
    match value {
        Value::Object(entries) if rng.below(8) != 0 => match rng.below(3) {
            0 => {
                let names: Vec<String> = entries.keys().cloned().collect();
                if !names.is_empty() {
                    entries.remove(&names[rng.below(names.len())]);
                }
            }
            _ => drop(entries.insert(rng.pick(words).to_owned(), any_value(words, rng))),
        },
        Value::Array(items) if rng.below(8) != 0 => match (rng.below(3), items.last().cloned()) {
            (0, _) => drop(items.pop()),
            (1, Some(last)) => items.push(last),
            _ => items.push(any_value(words, rng)),
        },
        Value::String(text) if rng.below(2) == 0 => {
            let mut bytes = std::mem::take(text).into_bytes();
            if rng.below(2) == 0 {
                replace_number(&mut bytes, rng)
            } else {
                change_byte(&mut bytes, rng)
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        other => *other = any_value(words, rng),
    }
}

fn any_value(words: &[&str], rng: &mut Rng) -> Value {
    match rng.below(8) {
        0 => Value::Null,
        1 => Value::Bool(rng.below(2) == 0),
        2 => serde_json::from_str(rng.pick(NUMBERS)).unwrap_or(Value::Null),
        3 => Value::Array((0..rng.below(3)).map(|_| any_value(words, rng)).collect()),
        4 => Value::Object(
            (0..rng.below(3))
                .map(|_| (rng.pick(words).to_owned(), any_value(words, rng)))
                .collect(),
        ),
        _ => Value::String(rng.pick(words).to_owned()),
    }
}
