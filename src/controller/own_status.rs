//! The status of an IPPool of hereabouts: its numbers and its conditions.

use super::census::{Census, FamilyCensus, Group};
use super::conditions::{READY, Told, merged};
use super::overview::SliceNumbers;
use crate::store::kube::objects::ip_pool_status::{Slices, Status};
use std::time::SystemTime;

/// The version of this controller.
pub const WRITER: &str = env!("CARGO_PKG_VERSION");

/// Whether claims and pods get addresses, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They do.
    Ready,
    /// The pool has this mistake.
    Invalid(String),
    /// The pool is being deleted. The text says what it waits for.
    Deleting(String),
}

impl Told {
    /// Returns whether people should look at the pool.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        match self.kind {
            READY => self.reason == "Invalid",
            "Draining" => false,
            _ => self.is_true && !["SameScope", "NetworkRange"].contains(&self.reason),
        }
    }

    /// Returns whether nothing is worth an event.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.is_true == (self.kind == READY)
    }
}

/// Returns the condition `Ready`.
#[must_use]
pub fn ready(readiness: &Readiness) -> Told {
    let (is_true, reason, message) = match readiness {
        Readiness::Ready => (true, "Ready", "gives addresses".to_owned()),
        Readiness::Invalid(mistake) => (false, "Invalid", mistake.clone()),
        Readiness::Deleting(waits) => (false, "Deleting", waits.clone()),
    };
    Told { kind: READY, is_true, reason, message }
}

/// Returns the condition `Full`: of the family that has the smallest part left, because a pod gets
/// an address of each.
#[must_use]
pub fn full(census: &Census) -> Told {
    let message = |found: &FamilyCensus| {
        format!("{} of {} {} addresses are held", found.dynamic, found.totals.dynamic, found.family)
    };
    let messages: Vec<String> = usable(census).map(message).collect();
    let of_family = |found: &FamilyCensus| fill(found.dynamic, found.totals.dynamic);
    let gravest = usable(census).map(of_family).max().unwrap_or(Fill::Room);
    gravest.told(messages.join(", "))
}

/// Returns the condition `Full` of a pool with slices. Nodes may have room in slices that they own.
#[must_use]
pub fn full_of_slices(slices: &SliceNumbers) -> Told {
    let SliceNumbers { total, owned, released, .. } = slices;
    let mut message = format!("nodes own {owned} of {total} slices");
    if 0 < *released {
        message.push_str(&format!("; released, and not removed yet: {released}"));
    }
    let filled = fill(slices.taken().into(), (*total).into());
    if filled == Fill::Full {
        message.push_str("; a node gives only what is free in its own slices");
    }
    filled.told(message)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fill {
    Room,
    NearlyFull,
    Full,
}

impl Fill {
    fn told(self, message: String) -> Told {
        let (is_true, reason) = match self {
            Self::Room => (false, "Room"),
            Self::NearlyFull => (true, "NearlyFull"),
            Self::Full => (true, "Full"),
        };
        Told { kind: "Full", is_true, reason, message }
    }
}

/// Returns the families that have addresses for everybody.
fn usable(census: &Census) -> impl Iterator<Item = &FamilyCensus> {
    census.families.iter().filter(|found| 0 < found.totals.dynamic)
}

const fn fill(held: u128, total: u128) -> Fill {
    if total <= held {
        Fill::Full
    // At least 90 %, without an overflow.
    } else if total - held <= total / 10 {
        Fill::NearlyFull
    } else {
        Fill::Room
    }
}

/// Returns the condition `Draining`. `names` are the first of the holders.
#[must_use]
pub fn draining(outside: &Group, names: &[String]) -> Told {
    let (is_true, reason, message) = match outside.count {
        0 => (false, "None", "every held address of its subnets is one that it gives".to_owned()),
        count => (
            true,
            "HeldOutside",
            format!(
                "{}: no other pod gets such an address afterwards",
                counted(
                    count,
                    "address that it does not give is held",
                    "addresses that it does not give are held",
                    names
                )
            ),
        ),
    };
    Told { kind: "Draining", is_true, reason, message }
}

/// Returns what a pool waits for that is being deleted.
#[must_use]
pub fn waits(holders: &Group, names: &[String], quiet: u64) -> String {
    match holders.count {
        0 => format!(
            "is being deleted, and waits until no node knows it any more, for {quiet} s after the last address was freed"
        ),
        count => format!(
            "is being deleted, and waits: {}",
            counted(count, "address of it is held", "addresses of it are held", names)
        ),
    }
}

/// Returns what a pool with slices waits for that is being deleted. `taken` are the first of those
/// that nodes own or that were released. Without any, it is not known whether there is one.
#[must_use]
pub fn waits_for_slices(count: usize, taken: &[String]) -> String {
    match count {
        0 => "is being deleted, and waits until the controller has read all slices".to_owned(),
        count => format!(
            "is being deleted, and waits: {}",
            counted(
                count as u128,
                "slice of it is not given back",
                "slices of it are not given back",
                taken
            )
        ),
    }
}

fn counted(count: u128, one: &str, several: &str, names: &[String]) -> String {
    let what = if count == 1 { one } else { several };
    let more = count.saturating_sub(names.len() as u128);
    let more = (0 < more).then(|| format!("{more} more"));
    let names: Vec<&str> = names.iter().map(String::as_str).chain(more.as_deref()).collect();
    format!("{count} {what}: {}", names.join(", "))
}

/// What is known of a pool in numbers.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'n> {
    /// Nothing, because the pool has a mistake.
    Unknown,
    /// Its addresses.
    Addresses(&'n Census),
    /// Its slices, if they have been read. Of its addresses, only nodes know whether they are held.
    Slices(&'n Census, Option<SliceNumbers>),
}

/// Returns the status with these conditions and numbers. Conditions that a newer controller wrote
/// stay as they are.
#[must_use]
pub fn status(
    before: &Status,
    told: &[Told],
    numbers: Numbers<'_>,
    generation: i64,
    now: SystemTime,
) -> Status {
    let (census, holders) = match numbers {
        Numbers::Unknown => (None, None),
        Numbers::Addresses(census) => (Some(census), Some(census)),
        Numbers::Slices(census, _) => (Some(census), None),
    };
    let number = |census: Option<&Census>, count: &dyn Fn(&Census) -> u128| {
        census.map(|census| count(census).to_string())
    };
    let may_tell = !is_older_than(before.writer.as_deref());
    let conditions = match may_tell {
        true => merged(&before.conditions, told, generation, now),
        false => before.conditions.clone(),
    };
    Status {
        conditions,
        observed_generation: if may_tell { Some(generation) } else { before.observed_generation },
        total: number(census, &|census| census.sum(|found| found.totals.total)),
        held: number(holders, &|census| census.sum(|found| found.dynamic + found.reserved)),
        free: number(holders, &|census| {
            census.sum(|found| found.totals.dynamic.saturating_sub(found.dynamic))
        }),
        reserved: number(holders, &|census| census.sum(|found| found.totals.reserved)),
        excluded: number(census, &|census| census.sum(|found| found.totals.excluded())),
        out_of_range: number(holders, &|census| census.outside.count),
        slices: match numbers {
            Numbers::Unknown | Numbers::Addresses(_) => None,
            Numbers::Slices(_, Some(numbers)) => Some(Slices {
                total: numbers.total,
                owned: numbers.owned,
                released: numbers.released,
                free: numbers.free(),
            }),
            Numbers::Slices(_, None) => before.slices,
        },
        writer: if may_tell { Some(WRITER.to_owned()) } else { before.writer.clone() },
    }
}

/// Returns whether this controller is older than the one that wrote the conditions.
#[must_use]
pub fn is_older_than(writer: Option<&str>) -> bool {
    let Some(writer) = writer.and_then(version) else { return false };
    version(WRITER).is_some_and(|own| own < writer)
}

fn version(text: &str) -> Option<[u64; 3]> {
    let numbers = text.split(['-', '+']).next()?.split('.');
    let numbers: Vec<u64> = numbers.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Returns what turned between two states: the conditions whose status or reason is another one.
/// What is usual is nothing new when it is first said.
pub fn turned<'t>(before: &'t Status, told: &'t [Told]) -> impl Iterator<Item = &'t Told> {
    told.iter().filter(|told| {
        let known = before.conditions.iter().find(|found| found.kind == told.kind);
        known.map_or(!told.is_usual(), |known| {
            (known.status == "True") != told.is_true || known.reason != told.reason
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Family;
    use crate::controller::extent::Totals;
    use crate::store::kube::objects::ip_pool_status::Condition;
    use std::time::Duration;

    fn of(family: Family, held: u128, total: u128) -> FamilyCensus {
        let totals = Totals { total, dynamic: total, reserved: 0 };
        FamilyCensus { family, totals, dynamic: held, reserved: 0 }
    }

    #[test]
    fn a_pool_is_as_full_as_the_fuller_of_its_families() {
        for (held, total, reason) in [
            (0, 10, "Room"),
            (8, 10, "Room"),
            (9, 10, "NearlyFull"),
            (10, 10, "Full"),
            (89, 99, "Room"),
            (90, 99, "NearlyFull"),
            (4, 5, "Room"),
            (5, 5, "Full"),
            // Only reserved addresses.
            (0, 0, "Room"),
            (u128::MAX / 10 * 8, u128::MAX, "Room"),
        ] {
            let families = vec![of(Family::V4, held, total), of(Family::V6, 3, 1 << 64)];
            let told = full(&Census { families, ..Census::default() });
            assert_eq!((told.reason, told.is_true), (reason, reason != "Room"), "{held}/{total}");
        }
        let families = vec![of(Family::V4, 9, 10), of(Family::V6, 3, 20)];
        let told = full(&Census { families, ..Census::default() });
        let both = "9 of 10 IPv4 addresses are held, 3 of 20 IPv6 addresses are held";
        assert_eq!(told.message, both);
    }

    #[test]
    fn a_pool_with_slices_is_full_when_no_slice_is_free() {
        for (total, owned, released, reason, message) in [
            (10, 8, 0, "Room", "nodes own 8 of 10 slices"),
            (10, 8, 1, "NearlyFull", "nodes own 8 of 10 slices; released, and not removed yet: 1"),
            (1, 1, 0, "Full", "nodes own 1 of 1 slices; a node gives only what is free"),
            (2, 0, 2, "Full", "0 of 2 slices; released, and not removed yet: 2; a node"),
            // Slices of an earlier pool of the name.
            (1, 2, 0, "Full", "nodes own 2 of 1 slices"),
        ] {
            let numbers = SliceNumbers { total, owned, released, ..SliceNumbers::default() };
            let told = full_of_slices(&numbers);
            assert_eq!((told.reason, told.is_true), (reason, reason != "Room"), "{numbers:?}");
            assert!(told.message.contains(message), "{}", told.message);
        }
    }

    #[test]
    fn a_pool_with_slices_does_not_say_how_many_addresses_are_held() {
        let census = Census { families: vec![of(Family::V4, 0, 16)], ..Census::default() };
        let (total, owned, released) = (4, 1, 1);
        let slices = Some(SliceNumbers { total, owned, released, unpublished: 1, held: 9 });
        let at = SystemTime::UNIX_EPOCH;
        let first = Numbers::Slices(&census, slices);
        let first = status(&Status::default(), &[], first, 1, at);
        assert_eq!(first.slices, Some(Slices { total: 4, owned: 1, released: 1, free: 2 }));
        assert_eq!((first.total.as_deref(), first.excluded.as_deref()), (Some("16"), Some("0")));
        assert_eq!([first.held.as_deref(), first.free.as_deref()], [None; 2]);
        // A controller that starts does not know the slices at once.
        let again = status(&first, &[], Numbers::Slices(&census, None), 1, at);
        assert_eq!(again, first);
        assert_eq!(status(&first, &[], Numbers::Unknown, 1, at).slices, None);
    }

    #[test]
    fn the_time_of_a_transition_changes_only_with_the_status() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let told = |readiness: &Readiness| [ready(readiness)];
        let first = Readiness::Invalid("a".to_owned());
        let first = status(&Status::default(), &told(&first), Numbers::Unknown, 1, at(0));
        let other = Readiness::Invalid("b".to_owned());
        let same = status(&first, &told(&other), Numbers::Unknown, 2, at(1));
        assert_eq!(same.conditions[0].last_transition_time, "1970-01-01T00:00:00Z");
        assert_eq!(same.conditions[0].message, "b");
        assert_eq!(same.observed_generation, Some(2));
        let turned_at = status(&same, &told(&Readiness::Ready), Numbers::Unknown, 3, at(2));
        assert_eq!(turned_at.conditions[0].last_transition_time, "1970-01-01T00:00:02Z");
        assert_eq!(turned(&same, &told(&other)).count(), 0);
        assert_eq!(turned(&same, &told(&Readiness::Ready)).count(), 1);
        // At first, only what is not usual is new.
        assert_eq!(turned(&Status::default(), &told(&Readiness::Ready)).count(), 0);
        assert_eq!(turned(&Status::default(), &told(&other)).count(), 1);
    }

    #[test]
    fn conditions_of_others_and_of_newer_controllers_stay() {
        let condition = |kind: &str| Condition {
            kind: kind.to_owned(),
            status: "True".to_owned(),
            reason: "R".to_owned(),
            ..Condition::default()
        };
        let conditions = vec![condition("Audited"), condition("Ready")];
        let before = |writer: &str| Status {
            conditions: conditions.clone(),
            observed_generation: Some(7),
            writer: Some(writer.to_owned()),
            ..Status::default()
        };
        let told = [ready(&Readiness::Ready)];
        let after =
            |writer| status(&before(writer), &told, Numbers::Unknown, 8, SystemTime::UNIX_EPOCH);
        let older = after("0.0.1");
        assert_eq!((&*older.conditions[0].kind, &*older.conditions[0].reason), ("Audited", "R"));
        assert_eq!((&*older.conditions[1].kind, &*older.conditions[1].reason), ("Ready", "Ready"));
        assert_eq!(older.writer.as_deref(), Some(WRITER));
        for newer in ["99.0.0", "0.1000.0-rc.1"] {
            let after = after(newer);
            assert_eq!((&after.conditions, after.observed_generation), (&conditions, Some(7)));
            assert_eq!(after.writer.as_deref(), Some(newer));
        }
        // What is not a version says nothing.
        assert!(!is_older_than(Some("newest")) && !is_older_than(None));
    }
}
