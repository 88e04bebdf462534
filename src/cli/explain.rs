//! `explain`: what an ADD would answer for a pod now, step by step, and why. It runs the code of ADD
//! on a store that changes nothing.
//!
//! - `steps`: what was found about a network, as text and as JSON

mod steps;

use super::{ExplainArgs, Format, HintedError, UsageError, locate, output, pools, selectors};
use crate::cni::{Call, Sandbox, Version};
use crate::config::{CniArgs, ConfigError, FlatFile, Merged, Network, Settings, StoreKind};
use crate::environment::Environment;
use crate::ipam::{ContainerId, IfName, NetworkName};
use crate::json::Json;
use crate::plugin::failure::Failure;
use crate::plugin::machine;
use crate::plugin::trial::{Place, Tried};
use anyhow::anyhow;
use serde_json::Value;
use steps::{PoolStep, Steps};

/// The container of the ADD on trial. No runtime uses this ID.
const CONTAINER: &str = "hereabouts-explain";

pub(super) fn explain(environment: &Environment, args: &ExplainArgs) -> anyhow::Result<()> {
    let mut cni_args = vec!["IgnoreUnknown=1".to_owned()];
    if let Some(text) = &args.pod {
        let pod = selectors::parse_pod(text)?;
        let Some(namespace) = &pod.namespace else {
            let message = format!("--pod: expected NAMESPACE/NAME, found {text:?}");
            return Err(UsageError::new(message).into());
        };
        cni_args.push(format!("K8S_POD_NAMESPACE={namespace}"));
        cni_args.push(format!("K8S_POD_NAME={}", pod.name));
    }
    cni_args.extend(args.ip.map(|address| format!("IP={address}")));
    let node = args.node.as_deref().map(selectors::parse_node).transpose()?;
    let node = node.map(|node| node.as_str().to_owned());
    let place = Place { node, labels: args.node_labels.clone() };
    let ifname = IfName::parse(&args.interface).map_err(|_| {
        UsageError::new(format!("--interface: expected a name, found {:?}", args.interface))
    })?;
    let mut all = Vec::new();
    for configuration in locate::configurations(&args.network)? {
        let args = cni_args.join(";").into_bytes();
        let trial = Trial { environment, place: &place, args, ifname: &ifname };
        all.push(trial.steps(&configuration)?);
    }
    match args.output {
        Format::Json => output::print_json(&Value::Array(all.iter().map(Steps::json).collect()))?,
        Format::Table => {
            let texts: Vec<String> = all.iter().map(Steps::text).collect();
            output::print(&texts.join("\n"))?;
        }
    }
    match all.into_iter().find_map(|steps| steps.answer.err()) {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// The ADD on trial.
struct Trial<'t> {
    environment: &'t Environment,
    place: &'t Place,
    args: Vec<u8>,
    ifname: &'t IfName,
}

impl Trial<'_> {
    fn steps(&self, configuration: &Json) -> anyhow::Result<Steps> {
        let path = Merged::configuration_path(configuration);
        let flat = self.place.flat_file(&self.environment.node, path)?;
        let merged = Merged::new(configuration, flat.as_ref())?;
        let settings = Settings::parse(&merged, CniArgs::name_a_pod(&self.args))?;
        if self.place.node.is_some() && settings.store.kind != StoreKind::File {
            let message =
                "--node: only the node itself knows what it would give from the Kubernetes store";
            return Err(HintedError::new(message, "run the command on that node").into());
        }
        let args = CniArgs::parse(&self.args)?.with_interface(self.ifname);
        let node = machine::node_name(&self.environment.node, &settings, flat.as_ref())?;
        let call = self.call(configuration.clone())?;
        let name = call.network.to_string();
        let answer = self.add(&call)?;
        let mut steps = Steps::new(name, flat.as_ref(), &settings, (&node, &args.pod), answer);
        // The failure of the ADD says what is wrong with a network that cannot be parsed.
        let Ok(network) = Network::parse(&merged, &args) else {
            return Ok(steps);
        };
        steps.is_probed = network.probe.is_some();
        if network.pools.is_empty() {
            steps.describe(&network);
        }
        for pool in &network.pools {
            let answer = self.add(&self.call(only(configuration, pool))?)?;
            let is_chosen = answer.is_ok() && steps.pools.iter().all(|step| !step.is_chosen);
            if is_chosen {
                steps.describe(&self.served(pool, &network, &args, flat.as_ref(), &settings)?);
            }
            steps.pools.push(PoolStep { name: pool.clone(), is_chosen, failure: answer.err() });
        }
        Ok(steps)
    }

    /// Returns the network as a pool serves it.
    fn served(
        &self,
        pool: &str,
        network: &Network,
        args: &CniArgs,
        flat: Option<&FlatFile>,
        settings: &Settings,
    ) -> anyhow::Result<Network> {
        let pool = pools::any(pool, flat, settings, self.environment)?;
        Ok(network.served_by(&pool, args).map_err(Failure::from)?)
    }

    fn call(&self, configuration: Json) -> anyhow::Result<Call> {
        let text = |key: &str| configuration.find(key).and_then(Json::as_str).unwrap_or_default();
        let (name, version) = (text("name").to_owned(), text("cniVersion").to_owned());
        let network = NetworkName::parse(&name).map_err(|_| {
            ConfigError::meaning("name", format!("expected the name of a network, found {name:?}"))
        })?;
        let version = Version::find(&version).ok_or_else(|| {
            let reason = format!("expected one of {}, found {version:?}", Version::list());
            ConfigError::meaning("cniVersion", reason)
        })?;
        Ok(Call { network, version, configuration, args: self.args.clone() })
    }

    /// Carries out an ADD that changes nothing.
    fn add(&self, call: &Call) -> anyhow::Result<Result<Tried, Failure>> {
        let container =
            ContainerId::parse(CONTAINER).map_err(|_| anyhow!("no container: {CONTAINER}"))?;
        let sandbox = Sandbox {
            container,
            ifname: self.ifname.clone(),
            netns: None,
            own_netns_allowed: true,
        };
        Ok(self.place.add(self.environment, call, &sandbox))
    }
}

/// Returns the configuration with one pool alone.
fn only(configuration: &Json, pool: &str) -> Json {
    let mut alone = configuration.clone();
    if let Json::Object(entries) = &mut alone {
        for (_, ipam) in entries.iter_mut().filter(|(key, _)| key == "ipam") {
            if let Json::Object(keys) = ipam {
                keys.retain(|(key, _)| !key.eq_ignore_ascii_case("pools"));
            }
            ipam.set("pool", Json::String(pool.to_owned()));
        }
    }
    alone
}
