//! Checks one network, in the way in which the plugin reads it.

use super::case::Case;
use super::report::{Range, Report, Store};
use super::{main_plugins, notes};
use crate::config::{
    Chain, CniArgs, ConfigError, FlatFile, IpamPlugin, Merged, Mistakes, Network, Settings,
    StoreKind,
};
use crate::environment::Environment;
use crate::ipam::{self, ConfiguredRange};
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
    settings(report, &merged, configuration, environment);
    match Network::parse(&merged, &CniArgs::default()) {
        Err(mistakes) => report.mistakes.add(mistakes),
        Ok(network) => {
            outline(report, &network);
            let origin = report.origin.clone();
            let case = Case { configuration, chain, origin: &origin, flat, network: &network };
            notes::of_values(report, &case);
            report.remarks = main_plugins::remarks(&case);
            report.mistakes.add(limits(&network));
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
) {
    let settings = match Settings::parse(merged, false) {
        Ok(settings) => settings,
        Err(error) => return report.mistakes.add(error),
    };
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
    report.notes.extend(settings.log.notes);
    if let Some(path) = merged.overruled_by() {
        report.note(format!(
            "the store of Whereabouts is not used, because {} names a store",
            path.display()
        ));
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

/// Reports the addresses and routes.
pub(super) fn outline(report: &mut Report, network: &Network) {
    report.scope = Some(network.scope.name().map(str::to_owned));
    let range_row = |range: &ConfiguredRange| Range {
        range: range.bounds.to_string(),
        subnet: range.subnet.to_string(),
        addresses: range.candidates().count(),
        gateway: range.gateway.map(|gateway| gateway.to_string()),
    };
    report.sets =
        network.sets.iter().map(|set| set.ranges.iter().map(range_row).collect()).collect();
    report.statics =
        network.statics.iter().map(|fixed| format!("{}/{}", fixed.address, fixed.prefix)).collect();
    let reserved = network
        .reservations
        .entries
        .iter()
        .flat_map(|entry| entry.ranges.iter().map(|range| (*range, entry.owner.to_string())));
    report.reservations = reserved.collect();
    report.on_request = network.reservations.on_request.ranges().collect();
    let candidates = network.ranges().map(ConfiguredRange::candidates);
    report.dynamic = candidates.flat_map(|set| set.ranges().collect::<Vec<_>>()).collect();
    let routes = network.routes.iter().map(|route| {
        let gw = route.gw.map_or_else(String::new, |gw| format!(" via {gw}"));
        format!("{}{gw}", route.dst)
    });
    report.routes = routes.collect();
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
