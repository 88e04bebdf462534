//! `pool adopt --dry-run`: shows what hereabouts-controller does about the IPAddresses that the
//! provider of Cluster API has written. It reads the API of a cluster and changes nothing. The
//! controller adopts, by the same rule: [`Adoption`].
//!
//! - `look`: what the cluster has

mod look;

use super::{AdoptArgs, Format, UsageError, output};
use crate::environment::Environment;
use crate::ipam::adoption::Adoption;
use anyhow::bail;
use look::{Answer, Found, Pool};
use serde_json::{Value, json};

const HEADINGS: [&str; 4] = ["POOL", "ADDRESS", "IPADDRESS", "WHAT"];

pub(super) fn adopt(environment: &Environment, args: &AdoptArgs) -> anyhow::Result<()> {
    let Some(kubeconfig) = args.kubeconfig.as_deref().filter(|_| args.dry_run) else {
        return Err(UsageError::hinted(
            "pool adopt adopts nothing itself: pass --dry-run to see what hereabouts-controller would do",
            "the controller adopts by itself: from its start on, and before it answers a claim, it holds the address of each IPAddress of its pools; scale the provider to zero before you install it",
        )
        .into());
    };
    let found = look::look(kubeconfig, environment, &args.pools)?;
    let all = || found.pools.iter().flat_map(|pool| &pool.answers);
    let conflicts = all().filter(|answer| answer.conflict.is_some()).count();
    match args.output {
        Format::Json => output::print_json(&document(&found))?,
        Format::Table => {
            describe(&found)?;
            let held = all().filter(|answer| answer.adoption == Adoption::Held).count();
            let new = all().filter(|answer| answer.adoption == Adoption::New).count();
            let verdict = if conflicts == 0 { "no conflicts: " } else { "" };
            output::print(&format!(
                "{verdict}checked {} with {}: {held} held, {new} would be held, {conflicts} in conflict\n",
                output::count(found.pools.len(), "pool"),
                output::count(all().count(), "address"),
            ))?;
            notes(&found);
        }
    }
    match conflicts {
        0 => Ok(()),
        conflicts => bail!("{} found", output::count(conflicts, "conflict")),
    }
}

fn describe(found: &Found) -> anyhow::Result<()> {
    let row = |pool: &Pool, answer: &Answer| {
        let what = match (&answer.conflict, answer.adoption) {
            (Some(reason), _) => format!("conflict: {}", output::printable(reason)),
            (None, Adoption::Held) => "held".to_owned(),
            (None, _) => "would be held".to_owned(),
        };
        let name = format!("{}/{}", answer.namespace, answer.name);
        vec![
            output::printable(&pool.id.to_string()),
            output::printable(&answer.address),
            output::printable(&name),
            what,
        ]
    };
    let rows: Vec<Vec<String>> = found
        .pools
        .iter()
        .flat_map(|pool| pool.answers.iter().map(move |answer| row(pool, answer)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    output::print(&output::table(&HEADINGS, &rows))
}

/// Says what is not about one address.
fn notes(found: &Found) {
    for pool in found.pools.iter().filter(|pool| !pool.answers.is_empty()) {
        if pool.wished != pool.scope {
            output::say(&format!(
                "{} asks for the scope {}, and its addresses are held in {}; that changes when none is held",
                output::printable(&pool.id.to_string()),
                output::printable(&pool.wished.to_string()),
                output::printable(&pool.scope.to_string()),
            ));
        }
    }
    if 0 < found.without_pool {
        output::say(&format!(
            "not adopted, because their pool does not exist: {}",
            output::count(found.without_pool, "address")
        ));
    }
}

/// Returns what was found as JSON. The keys are documented and stable.
fn document(found: &Found) -> Value {
    let of_answer = |answer: &Answer| {
        json!({
            "address": answer.address,
            "namespace": answer.namespace,
            "name": answer.name,
            "state": match answer.adoption {
                Adoption::Held => "held",
                Adoption::New => "new",
                Adoption::Conflict => "conflict",
            },
            "conflict": answer.conflict,
        })
    };
    let of_pool = |pool: &Pool| {
        json!({
            "kind": pool.id.kind.name(),
            "namespace": Some(&pool.id.namespace).filter(|text| !text.is_empty()),
            "name": pool.id.name,
            "scope": pool.scope.name(),
            "wishedScope": pool.wished.name(),
            "addresses": pool.answers.iter().map(of_answer).collect::<Vec<_>>(),
        })
    };
    json!({
        "pools": found.pools.iter().map(of_pool).collect::<Vec<_>>(),
        "addressesWithoutPool": found.without_pool,
    })
}
