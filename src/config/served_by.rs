//! A network as a pool serves it.

use super::args::CniArgs;
use super::pool::Pool;
use super::validate::Network;
use super::{ConfigError, MainPlugin, Mistakes, gateway, limits, reservations};
use crate::addr::{Blocks, Range};
use crate::ipam::{ConfiguredRange, Slicing};
use std::rc::Rc;

impl Network {
    /// Returns this network with the addresses of a pool: its scope, its subnets, its reservations
    /// besides the network's own, and its routes and families if the network has none.
    ///
    /// # Errors
    /// Returns the mistakes of the network with this pool.
    pub fn served_by(&self, pool: &Pool, args: &CniArgs) -> Result<Self, Mistakes> {
        let mut network = Self { pools: Vec::new(), scope: pool.scope.clone(), ..self.clone() };
        let mut mistakes = Mistakes::default();
        if let Some(slices) = &pool.slices {
            network.beyond.add(self.mistakes_with_slices());
            network.slicing = Some(Rc::new(Slicing {
                pool: pool.name.clone(),
                pool_uid: pool.uid.clone().unwrap_or_default(),
                geometry: slices.geometry.clone(),
                most_per_node: slices.most_per_node,
                may_overlap: slices.may_overlap.clone(),
            }));
        }
        network.reservations.entries.extend(pool.reservations.iter().cloned());
        network.reservations.set_pod(args.pod.as_ref(), args.interface.as_ref());
        let statics = self.statics.iter().map(|fixed| Range::single(fixed.address));
        let reserved = network.reservations.blocks();
        let reserved: Rc<Blocks> = Rc::new(reserved.ranges().chain(statics).collect());
        let gateways = self.statics.iter().filter_map(|fixed| fixed.gateway).collect::<Vec<_>>();
        network.sets = pool.range_sets(self.main_plugin, &self.barred, &gateways, &reserved);
        if network.routes.is_empty() {
            network.routes.clone_from(&pool.routes);
        }
        mistakes.add(reservations::check(&self.reservations, &network.sets));
        let families = self.families.above(&pool.families);
        let selected = families.select(network.sets, &self.statics);
        selected.retain_routes(&mut network.routes);
        // A pool without a family that the network needs is no mistake: another one may have it.
        network.beyond.add(selected.mistakes);
        (network.sets, network.family_order) = (selected.sets, selected.order);
        let unusable = gateway::unusable(&network.sets, &network.statics, &network.routes);
        unusable.into_iter().for_each(|mistake| mistakes.add(mistake));
        let count = network.sets.iter().map(|set| set.ranges.len()).sum();
        limits::beyond("pool", "subnets", count, network.limits.ranges)
            .into_iter()
            .for_each(|mistake| mistakes.add(mistake));
        mistakes.none_or(network)
    }

    /// Returns the mistakes of a network that wants single addresses out of slices. Each address there
    /// belongs to the node of its slice, and the pod may start on any node.
    pub(super) fn mistakes_with_slices(&self) -> Mistakes {
        let wanted = [
            ("ipam.addresses", !self.statics.is_empty()),
            ("ipam.reservations", !self.reservations.entries.is_empty()),
            ("ipam.sticky", self.sticky),
            ("allowPersistentIPs or args.cni.ipamClaim", self.ipam_claim.is_some()),
        ];
        let mut mistakes = Mistakes::default();
        for (place, _) in wanted.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            let reason =
                "expected no such key, because nodes own the addresses of this network in slices";
            let hint = "use a pool without slices for addresses that follow a pod";
            mistakes.add(ConfigError::meaning(place, reason).with_hint(hint));
        }
        mistakes
    }
}

impl Pool {
    /// Returns the ranges of a network that names this pool and has no other keys.
    #[must_use]
    pub fn ranges(&self) -> Vec<ConfiguredRange> {
        let reserved = self.reservations.iter().flat_map(|entry| entry.ranges.iter().copied());
        let reserved: Rc<Blocks> = Rc::new(reserved.collect());
        let sets = self.range_sets(MainPlugin::Other, &Rc::default(), &[], &reserved);
        sets.into_iter().flat_map(|set| set.ranges).collect()
    }
}
