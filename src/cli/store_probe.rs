//! `store test`: tests whether a filesystem has the properties that the store needs, also between
//! two machines. The test itself is `store::file::probe`. This file starts it and prints its
//! report: which properties are missing, and which setting would provide them.

use super::{Format, TestArgs, output};
use crate::plugin::machine::Machine;
use crate::store::disk::{Kind, RealDisk};
use crate::store::file::probe::{self, LONGEST_VIEW, Participant, Report, Verdict};
use anyhow::bail;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn test(args: &TestArgs) -> anyhow::Result<()> {
    let directory = std::path::absolute(&args.dir)?;
    if !directory.is_dir() {
        bail!("not a directory: {}", directory.display());
    }
    let host = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let guest =
        Participant { host, process: std::process::id(), boot_id: Machine::read()?.boot_id };
    let disk = RealDisk::new(directory.clone());
    output::say(&format!(
        "waiting up to {} for the same command on another machine: hereabouts store test {}",
        output::duration(args.wait),
        args.dir.display()
    ));
    let report = probe::run(&disk, &guest, args.wait)?;
    match args.output {
        Format::Json => output::print_json(&encode(&directory.display().to_string(), &report))?,
        Format::Table => output::print(&page(&directory.display().to_string(), &report))?,
    }
    match report.verdict() {
        Verdict::Safe | Verdict::SafeWithoutLocks => Ok(()),
        Verdict::Unproven => bail!("not proven for two machines"),
        Verdict::Unsafe => bail!("this filesystem is not safe for data_dir"),
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "safe",
        Verdict::SafeWithoutLocks => "safe_without_locks",
        Verdict::Unproven => "unproven",
        Verdict::Unsafe => "unsafe",
    }
}

fn page(directory: &str, report: &Report) -> String {
    let kind = if report.shared { "counts as shared" } else { "counts as local to one machine" };
    let rows = [
        ("Directory", format!("{directory} ({kind})")),
        ("Partner", partner(report)),
        ("Links", links(report)),
        ("Locks", locks(report)),
        ("Renames", renames(report)),
        ("Old views", views(report)),
        ("Names", names(report)),
        ("Syncs", syncs(report)),
        ("Verdict", sentence(report)),
        ("Power", power(report)),
    ];
    rows.iter().map(|(name, value)| format!("{:<11}{value}\n", format!("{name}:"))).collect()
}

fn partner(report: &Report) -> String {
    match &report.partner {
        None if report.is_unfit() => "not waited for".to_owned(),
        None => "none came: ONLY ONE MACHINE WAS TESTED".to_owned(),
        Some(guest) => {
            let place = if report.same_machine {
                "on this same machine, so two machines were not tested"
            } else {
                "on another machine"
            };
            format!("{} (process {}), {place}", output::printable(&guest.host), guest.process)
        }
    }
}

fn links(report: &Report) -> String {
    let links = report.links;
    if let Some(reason) = &report.no_links {
        return format!("NONE: a file cannot have a second name: {reason}");
    }
    if report.is_unfit() {
        return "not tested".to_owned();
    }
    if 0 < links.wrong {
        return format!(
            "NOT exclusive: {} of {} had two winners, no winner, or the other's file",
            links.wrong,
            output::count(links.names, "name")
        );
    }
    match report.partner {
        None => "exclusive (tested in one process only)".to_owned(),
        Some(_) => format!(
            "exclusive: {}, each with one winner; the winner changed {}",
            output::count(links.names, "name"),
            output::count(links.changes, "time")
        ),
    }
}

fn locks(report: &Report) -> String {
    match (&report.locks, &report.partner) {
        (None, _) => "not tested".to_owned(),
        (Some(locks), None) if locks.met == 0 => "exclude (tested in one process only)".to_owned(),
        (Some(locks), _) if 0 < locks.met => {
            format!(
                "do NOT exclude: both held the lock at once, {} in {}",
                output::count(locks.met, "time"),
                output::count(locks.turns, "turn")
            )
        }
        (Some(locks), Some(_)) => format!(
            "exclude: {}, refused {}, never held by both at once",
            output::count(locks.turns, "turn"),
            output::count(locks.refused, "time")
        ),
        (Some(_), None) => "not tested".to_owned(),
    }
}

fn renames(report: &Report) -> String {
    match report.renames {
        None => "not tested".to_owned(),
        Some(renames) if 0 < renames.free => format!(
            "leave a GAP: the name was free {} in {}",
            output::count(renames.free, "time"),
            output::count(renames.times, "rename")
        ),
        Some(renames) if renames.moves_open_files => {
            "not used: this mount moves an open file away before another gets its name; after a restart of its node, a pod gets another address".to_owned()
        }
        Some(renames) => format!(
            "replace: {}, and the name was never free",
            output::count(renames.times, "rename")
        ),
    }
}

fn syncs(report: &Report) -> String {
    if report.is_unfit() {
        return "not tested".to_owned();
    }
    format!(
        "{} per file, {} per directory",
        millis(report.syncs.file),
        millis(report.syncs.directory)
    )
}

fn names(report: &Report) -> String {
    let Some(names) = report.names else {
        return "not tested".to_owned();
    };
    match (names.same_inode, names.links) {
        (true, 2) => "two names of one file show one inode and two links".to_owned(),
        (true, links) => {
            format!("two names of one file show one inode and a link count of {links}")
        }
        (false, links) => {
            format!("two names of one file show TWO inodes and a link count of {links}")
        }
    }
}

fn views(report: &Report) -> String {
    let time = |time: Option<Duration>| time.map_or_else(more, millis);
    report.views.map_or_else(
        || "not tested".to_owned(),
        |views| {
            format!(
                "a new name is visible after {}, a removed one can be created again after {}",
                time(views.made),
                time(views.removed)
            )
        },
    )
}

fn sentence(report: &Report) -> String {
    match report.verdict() {
        Verdict::Safe if report.views.is_some_and(|views| views.removed.is_none()) => {
            format!(
                "SAFE, but the mount caches names: an address that another node released is skipped for {}; lower its cache time",
                more()
            )
        }
        Verdict::Safe => "SAFE".to_owned(),
        Verdict::SafeWithoutLocks => format!("SAFE, SLOWER: links decide who holds an address; {}", why_slower(report)),
        Verdict::Unproven if report.partner.is_none() => {
            "UNPROVEN: run this command on two machines at the same time, with the same directory".to_owned()
        }
        Verdict::Unproven => "UNPROVEN: the two machines rarely used the same name or lock at the same time; run the test again".to_owned(),
        Verdict::Unsafe => format!("UNSAFE: {}", why_unsafe(report)),
    }
}

fn more() -> String {
    format!("more than {}", output::duration(LONGEST_VIEW))
}

/// Returns the reasons why a store there is slower. It is still safe.
fn why_slower(report: &Report) -> String {
    let reasons = [
        (
            report.locks.is_some_and(|locks| 0 < locks.met),
            "without locks, nodes try the same address more often".to_owned(),
        ),
        (
            report.names.is_some_and(|names| !names.same_inode),
            "names do not show which file they belong to, so the contents of files are compared"
                .to_owned(),
        ),
        (
            report.views.is_some_and(|views| views.removed.is_none()),
            format!("the mount caches names, so a released address is skipped for {}", more()),
        ),
    ];
    reasons
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, reason)| reason)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Returns the property that is missing.
fn why_unsafe(report: &Report) -> String {
    if let Kind::Unfit(reason) = &report.kind {
        return format!(
            "{reason}; only a store of one machine can be on it, see single_node_store in docs/config.md"
        );
    }
    if report.no_links.is_some() {
        return "this filesystem has no hard links, which the store needs".to_owned();
    }
    if report.names.is_some_and(|names| names.are_of_a_union()) {
        return "one file shows two inodes, as on a union of several filesystems; each of them can have the same name, so an address could get two holders".to_owned();
    }
    if 0 < report.links.wrong {
        return "a link can give a name twice, so an address could get two holders".to_owned();
    }
    "a rename leaves the name free for a moment, so an address could get two holders".to_owned()
}

/// Returns a text about power losses, which a test on a client cannot check.
fn power(report: &Report) -> String {
    match &report.kind {
        Kind::Needs(setting) => format!("not tested; {setting}"),
        Kind::Unknown | Kind::Unfit(_) if report.shared => {
            "not tested: whether the server writes before it answers; see docs/filesystems.md"
                .to_owned()
        }
        Kind::Unknown | Kind::Unfit(_) => "not tested".to_owned(),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Returns the report as JSON. The keys are documented and stable. Times are in seconds.
fn encode(directory: &str, report: &Report) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "directory": directory,
        "shared": report.shared,
        "partner": report.partner.as_ref().map(|guest| json!({
            "host": guest.host,
            "process": guest.process,
            "sameMachine": report.same_machine,
        })),
        "type": match &report.kind {
            Kind::Unknown => Value::Null,
            Kind::Unfit(reason) => json!({"unfit": reason}),
            Kind::Needs(setting) => json!({"needs": setting}),
        },
        "hardLinks": report.no_links.is_none(),
        "names": report.names.map(|names| json!({"sameInode": names.same_inode, "links": names.links})),
        "links": {"names": report.links.names, "changes": report.links.changes, "wrong": report.links.wrong},
        "locks": report.locks.map(|locks| json!({"turns": locks.turns, "refused": locks.refused, "met": locks.met})),
        "renames": report.renames.map(|renames| json!({
            "times": renames.times,
            "free": renames.free,
            "movesOpenFiles": renames.moves_open_files,
        })),
        "views": report.views.map(|views| json!({"made": seconds(views.made), "removed": seconds(views.removed)})),
        "syncs": {"file": report.syncs.file.as_secs_f64(), "directory": report.syncs.directory.as_secs_f64()},
        "verdict": word(report.verdict()),
    })
}
