//! Checks one network, in the way in which the plugin reads it.

use super::case::Case;
use super::known_pools::{KnownPool, KnownPools};
use super::outline::{Outline, ServedBy};
use super::report::{Report, Store};
use super::{main_plugins, notes};
use crate::config::{
    Chain, CniArgs, ConfigError, FlatFile, IpamPlugin, Merged, Mistakes, Network, Settings,
    StoreKind,
};
use crate::environment::Environment;
use crate::ipam;
use crate::json::Json;
use crate::plugin::failure::Failure;
use crate::plugin::limit_check;
#[cfg(feature = "kube")]
use crate::plugin::stores;

/// Checks a plugin configuration.
pub(super) fn examine(
    report: &mut Report,
    configuration: &Json,
    chain: &Chain,
    flat: Option<&FlatFile>,
    known: &KnownPools,
    environment: &Environment,
) {
    report.name = configuration.find("name").and_then(Json::as_str).map(str::to_owned);
    report.is_named = chain.is_named;
    match IpamPlugin::of(configuration) {
        IpamPlugin::Other(why) => {
            report.not_ours = Some(why);
            return;
        }
        IpamPlugin::HostLocal => {
            report.note("type host-local: checked as if the type were hereabouts");
        }
        IpamPlugin::Ours => {}
    }
    check_type(report, configuration);
    let merged = match Merged::new(configuration, flat) {
        Ok(merged) => merged,
        Err(error) => return report.mistakes.add(error),
    };
    let settings = settings(report, &merged, configuration, environment);
    match Network::parse(&merged, &CniArgs::default()) {
        Err(mistakes) => report.mistakes.add(mistakes),
        Ok(network) => {
            let origin = report.origin.clone();
            let case =
                Case { configuration, chain, origin: &origin, flat, network: &network, pool: None };
            notes::of_values(report, &case);
            if network.pools.is_empty() {
                let own = network.reservations.entries.len();
                report.outlines.push(Outline::of(&network, None, own));
                notes::of_addresses(report, &case);
                report.remarks = main_plugins::remarks(&case);
                report.mistakes.add(limits(&network));
            } else {
                of_pools(report, &case, settings.as_ref(), known);
            }
        }
    }
    notes::of_keys(report, configuration);
}

fn check_type(report: &mut Report, configuration: &Json) {
    let ipam = configuration.find("ipam");
    let found = match ipam.and_then(|ipam| ipam.find("type")) {
        Some(Json::String(text)) if !text.is_empty() => return,
        None if !matches!(ipam, Some(Json::Object(_))) => return,
        Some(other) => other.excerpt(),
        None => "none".to_owned(),
    };
    let reason = format!("expected hereabouts or whereabouts, found {found}");
    report.mistakes.add(ConfigError::meaning("ipam.type", reason));
}

/// Reports the store and the notes about other settings.
fn settings(
    report: &mut Report,
    merged: &Merged<'_>,
    configuration: &Json,
    environment: &Environment,
) -> Option<Settings> {
    let settings = report.mistakes.note(Settings::parse(merged, false))?;
    store(report, &settings, environment);
    let ipam_type = configuration.find("ipam").and_then(|ipam| ipam.find("type")?.as_str());
    if !settings.store.named {
        let who = if ipam_type == Some("whereabouts") {
            "type whereabouts needs"
        } else {
            "Kubernetes pods need"
        };
        report.note(format!(
            "no store is configured here: {who} datastore or data_dir in each node's flat file"
        ));
    }
    report.notes.extend(settings.log.notes.iter().cloned());
    if let Some(path) = merged.overruled_by() {
        report.note(format!(
            "the store of Whereabouts is not used, because {} names a store",
            path.display()
        ));
    }
    Some(settings)
}

/// Checks a network with each of its pools, as the pool serves it.
fn of_pools(report: &mut Report, case: &Case<'_>, settings: Option<&Settings>, known: &KnownPools) {
    let network = case.network;
    report.mistakes.add(network.beyond.clone());
    for name in &network.pools {
        let inside = |place: &str| format!("pool {name}: {place}");
        let KnownPool { file, pool } = match known.find(name, case.flat, settings) {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => {
                report.note(why);
                continue;
            }
            Err(error) => {
                report.mistakes.add(error);
                continue;
            }
        };
        let Some(served) = report
            .mistakes
            .note(network.served_by(&pool, &CniArgs::default()).map_err(|all| all.at(inside)))
        else {
            continue;
        };
        let served_by = ServedBy { name: name.clone(), file };
        let own = network.reservations.entries.len();
        report.outlines.push(Outline::of(&served, Some(served_by), own));
        examine_served(report, &Case { network: &served, pool: Some(&pool), ..*case });
    }
}

/// Adds the notes and mistakes of a network as a pool serves it. What several pools have in common is
/// reported once.
pub(super) fn examine_served(report: &mut Report, case: &Case<'_>) {
    notes::of_addresses(report, case);
    for remark in main_plugins::remarks(case) {
        if report.remarks.iter().all(|other| other.words != remark.words) {
            report.remarks.push(remark);
        }
    }
    if let Some(pool) = case.pool.filter(|_| case.network.beyond.is_empty()) {
        let inside = |place: &str| format!("pool {}: {place}", pool.name);
        report.mistakes.add(limits(case.network).at(inside));
    }
}

/// Reports the store. No connection is made. The kubeconfig may exist only on the nodes, so a
/// failure to read it here is not a mistake.
#[cfg_attr(
    not(feature = "kube"),
    allow(unused_variables, reason = "only the Kubernetes store needs them")
)]
pub(super) fn store(report: &mut Report, settings: &Settings, environment: &Environment) {
    let store = &settings.store;
    report.store = Some(match &store.kind {
        StoreKind::File => {
            Store::File { data_dir: store.data_dir.clone(), origin: store.origin.clone() }
        }
        #[cfg(feature = "kube")]
        StoreKind::Kubernetes { kubeconfig } => {
            let server = stores::server(kubeconfig, &environment.proxy);
            if let Err(error) = &server {
                report.note(format!("the kubeconfig cannot be used on this machine: {error}"));
            }
            Store::Kubernetes { kubeconfig: kubeconfig.clone(), server: server.ok() }
        }
    });
}

/// Returns what keeps the network from a new allocation, even if every address is free.
fn limits(network: &Network) -> Mistakes {
    let checked = ipam::slots(&network.sets, &[], &network.statics, &network.reservations)
        .map_err(Failure::from);
    match checked.and_then(|slots| limit_check::check(network, &slots)) {
        Ok(()) => Mistakes::default(),
        Err(Failure::Config(error)) => error.into(),
        Err(other) => {
            let error = ConfigError::meaning("ipam", other.to_string());
            ConfigError { hint: other.hint(), ..error }.into()
        }
    }
}
