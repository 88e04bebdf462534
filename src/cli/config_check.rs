//! `config check`: prints what a configuration would allocate from, and every mistake with its JSON
//! path.

use super::{locate, output};
use crate::addr::Blocks;
use crate::config::{CniArgs, ConfigError, Merged, Mistakes, Network, Settings, StoreKind};
use crate::environment::Environment;
use crate::ipam::{self, Choice};
use crate::json::Json;
use crate::plugin::failure::Failure;
#[cfg(feature = "kube")]
use crate::plugin::stores;
use crate::plugin::{limit_check, machine};
use anyhow::bail;
use std::collections::HashSet;
use std::path::Path;

pub(super) fn check(environment: &Environment, file: &Path) -> anyhow::Result<()> {
    let configurations = locate::configurations(file)?;
    let flat = machine::flat_file(&environment.node, None)?;
    let mut mistakes = 0;
    for found in configurations {
        let text = |key: &str| {
            found.configuration.find(key).and_then(Json::as_str).unwrap_or_default().to_owned()
        };
        let place =
            if found.place.is_empty() { String::new() } else { format!(" ({})", found.place) };
        output::print(&format!("network {}{place}\n", output::plain(&text("name"))))?;
        let errors = match Merged::new(&found.configuration, flat.as_ref()) {
            Err(error) => error.into(),
            Ok(merged) => one(&merged, &found.configuration, environment)?,
        };
        mistakes += errors.first().len() + errors.more();
        for error in errors.first() {
            output::print(&format!("  mistake: {error}\n"))?;
            if let Some(hint) = &error.hint {
                output::print(&format!("    hint: {hint}\n"))?;
            }
        }
        if 0 < errors.more() {
            output::print(&format!("  mistake: and {} more\n", errors.more()))?;
        }
    }
    if 0 < mistakes {
        bail!("{mistakes} {} found", if mistakes == 1 { "mistake" } else { "mistakes" });
    }
    Ok(())
}

/// Prints what one configuration would do, and returns its mistakes.
fn one(
    merged: &Merged<'_>,
    configuration: &Json,
    environment: &Environment,
) -> anyhow::Result<Mistakes> {
    let mut errors = Mistakes::default();
    if configuration.find("name").is_none() {
        output::print("  note: no name: the runtime must fill it in\n")?;
    }
    match Settings::parse(merged, false) {
        Err(error) => errors.add(error),
        Ok(settings) => {
            let store = &settings.store;
            say_store(&settings, environment)?;
            let whereabouts =
                configuration.find("ipam").and_then(|ipam| ipam.find("type")?.as_str())
                    == Some("whereabouts");
            if !store.named {
                let who =
                    if whereabouts { "type whereabouts needs" } else { "Kubernetes pods need" };
                output::print(&format!(
                    "  note: no store is configured here: {who} datastore or data_dir in each node's flat file\n"
                ))?;
            }
            for note in &settings.log.notes {
                output::print(&format!("  note: {note}\n"))?;
            }
            if let Some(path) = merged.overruled_by() {
                output::print(&format!(
                    "  note: the store of Whereabouts is not used, because {} names a store\n",
                    path.display()
                ))?;
            }
        }
    }
    match Network::parse(merged, &CniArgs::default()) {
        Err(mistakes) => errors.add(mistakes),
        Ok(network) => {
            describe(&network)?;
            let checked = ipam::slots(&network.sets, &[], &network.statics, &network.reservations)
                .map_err(Failure::from);
            if let Err(failure) = checked.and_then(|slots| limit_check::check(&network, &slots)) {
                match failure {
                    Failure::Config(error) => errors.add(error),
                    other => errors.add(ConfigError {
                        hint: other.hint(),
                        ..ConfigError::meaning("ipam", other.to_string())
                    }),
                }
            }
        }
    }
    Ok(errors)
}

/// Prints which store it would use. No connection is made. The kubeconfig may exist only on the
/// nodes, so a failure to read it here is not a mistake.
#[cfg_attr(
    not(feature = "kube"),
    allow(unused_variables, reason = "only the Kubernetes store needs them")
)]
fn say_store(settings: &Settings, environment: &Environment) -> anyhow::Result<()> {
    let store = &settings.store;
    match &store.kind {
        StoreKind::File => {
            output::print(&format!("  store: {} ({})\n", store.data_dir.display(), store.origin))
        }
        #[cfg(feature = "kube")]
        StoreKind::Kubernetes { kubeconfig } => {
            output::print(&format!("  store: Kubernetes ({})\n", kubeconfig.display()))?;
            output::print(&match stores::server(kubeconfig, &environment.proxy) {
                Ok(server) => format!("  API server: {server}\n"),
                Err(error) => {
                    format!("  note: the kubeconfig cannot be used on this machine: {error}\n")
                }
            })
        }
    }
}

fn describe(network: &Network) -> anyhow::Result<()> {
    output::print(&format!("  scope: {}\n", output::plain(&network.scope.to_string())))?;
    if network.overlap_asked {
        output::print(
            "  note: enable_overlapping_ranges is false, but addresses stay unique in their scope; \
             to use the same addresses twice, give the networks different values of network_name\n",
        )?;
    }
    for set in &network.sets {
        let choices: Vec<String> = set.choices.iter().map(outline).collect();
        output::print(&format!("  one address from: {}\n", choices.join(", else ")))?;
    }
    note_vain(network)?;
    for fixed in &network.statics {
        output::print(&format!("  static address: {}/{}\n", fixed.address, fixed.prefix))?;
    }
    for route in &network.routes {
        let gw = route.gw.map_or_else(String::new, |gw| format!(" via {gw}"));
        output::print(&format!("  route: {}{gw}\n", route.dst))?;
    }
    Ok(())
}

/// Prints notes about valid but suspicious settings: a range without a usable address, and an
/// exclude without an effect.
fn note_vain(network: &Network) -> anyhow::Result<()> {
    let choices = || network.sets.iter().flat_map(|set| &set.choices);
    for choice in choices().filter(|choice| choice.candidates().is_empty()) {
        output::print(&format!(
            "  note: no usable address in {}: every address is excluded or a gateway\n",
            choice.range
        ))?;
    }
    // An exclude inside the subnet is not reported: many configurations also exclude the broadcast
    // address.
    let subnets: Blocks = choices().map(|choice| choice.subnet.whole()).collect();
    let of_all = network.excludes.iter().copied().filter(|range| !subnets.touches(range));
    let of_one = choices().flat_map(|choice| {
        let own = choice.excluded[1].ranges();
        own.filter(|range| choice.subnet.whole().intersection(range).is_none())
    });
    let mut said = HashSet::new();
    for range in of_all.chain(of_one).filter(|range| said.insert(*range)) {
        output::print(&format!("  note: exclude is outside every range: {range}\n"))?;
    }
    let excluded: Blocks = network
        .excludes
        .iter()
        .copied()
        .chain(choices().flat_map(|choice| choice.excluded[1].ranges()))
        .collect();
    for fixed in network.statics.iter().filter(|fixed| excluded.contains(fixed.address)) {
        output::print(&format!(
            "  note: static address is assigned although exclude covers it: {}\n",
            fixed.address
        ))?;
    }
    Ok(())
}

fn outline(choice: &Choice) -> String {
    let free = choice.candidates().count();
    let addresses = if free == 1 { "address" } else { "addresses" };
    let gateway = choice
        .gateway
        .map_or_else(|| "no gateway".to_owned(), |gateway| format!("gateway {gateway}"));
    format!("{} in {} ({free} {addresses}, {gateway})", choice.range, choice.subnet)
}
