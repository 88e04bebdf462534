//! Kinds that are being read from the beginning.
//!
//! A list says what there was at one moment, and this process learns of it later. Meanwhile answers
//! to its own writes come, and some of them are newer than the list: an object that was created
//! after that moment is not in the list, and the list has an earlier state of an object that was
//! changed after it. The watch begins at the moment of the list, so it tells of both.

use super::objects::{self, Version};
use super::{Holding, Kind, Name, State, Work};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The kinds that are being read from the beginning, each with the objects of which something was
/// noted since: from the list, or from the answer to a request. What is known of the others may be
/// newer than what the API server has, if it was restored from a backup.
#[derive(Debug, Default)]
pub(super) struct Listings(BTreeMap<Kind, HashSet<Name>>);

impl Listings {
    /// Returns whether a kind is being read.
    pub(super) fn contains(&self, kind: Kind) -> bool {
        self.0.contains_key(&kind)
    }

    /// Returns whether something was noted of an object since its kind is being read.
    pub(super) fn is_noted(&self, kind: Kind, name: &Name) -> bool {
        self.0.get(&kind).is_some_and(|noted| noted.contains(name))
    }

    /// Notes that something is known of an object.
    pub(super) fn note(&mut self, kind: Kind, name: &Name) {
        if let Some(noted) = self.0.get_mut(&kind) {
            noted.insert(name.clone());
        }
    }
}

impl State {
    /// Notes that all objects of a kind will now be read from the beginning.
    pub fn begin(&mut self, kind: Kind) {
        self.listings.0.insert(kind, HashSet::new());
        self.gone.forget(kind);
    }

    /// Returns whether a state of an object is older than what is known of it.
    pub(super) fn is_old(
        &self,
        kind: Kind,
        name: &Name,
        found: &Version,
        known: Option<&Version>,
    ) -> bool {
        let has_order = !self.listings.contains(kind) || self.listings.is_noted(kind, name);
        self.gone.contains(kind, &found.uid)
            || has_order && known.is_some_and(|known| !objects::is_newer(found, known))
    }

    /// Notes an IPAllocation as a list or a watch has it. Returns whether that was new.
    pub(super) fn insert_held(&mut self, name: &str, holding: Holding) -> bool {
        let kind = Kind::Allocations;
        let object = Name { namespace: "".into(), name: name.into() };
        let is_anew = self.listings.contains(kind) && !self.listings.is_noted(kind, &object);
        let is_new = self.held.insert(name, holding, is_anew);
        self.listings.note(kind, &object);
        is_new
    }

    /// Notes who holds an address by the answer to a request, whatever is known of it.
    pub fn note_held(&mut self, name: &str, holding: Holding) {
        let object = Name { namespace: "".into(), name: name.into() };
        self.listings.note(Kind::Allocations, &object);
        self.held.insert(name, holding, true);
    }

    /// Notes that all objects of a kind have been read, and forgets those that were not among them.
    pub fn finish(&mut self, kind: Kind, seen: &HashSet<Name>) -> Vec<Work> {
        self.read.insert(kind);
        let noted = self.listings.0.remove(&kind).unwrap_or_default();
        let gone: Vec<Name> = match kind {
            Kind::Claims => missing(&self.claims, seen),
            Kind::Answers => missing(&self.answers, seen),
            Kind::Clusters => missing(&self.clusters, seen),
            Kind::Services => self.services.names().filter(|name| !seen.contains(name)).collect(),
            Kind::IpamClaims => self.ipam_claims.missing(seen),
            Kind::Slices => self.slices.missing(seen),
            Kind::Networks => self.networks.names().filter(|name| !seen.contains(name)).collect(),
            Kind::Allocations => self.held.names().filter(|name| !seen.contains(name)).collect(),
            Kind::Pools(of) => {
                let known =
                    self.pools.keys().filter(|id| id.kind == of).map(|id| Name::of_pool(id));
                known.filter(|name| !seen.contains(name)).collect()
            }
        };
        let mut work = Vec::new();
        for name in &gone {
            // What was noted meanwhile may have been created after the moment of the list. The watch
            // tells of it then, and must be believed.
            if !noted.contains(name)
                && let Some(version) = self.version(kind, name)
            {
                self.gone.insert(kind, version.uid.clone());
            }
            work.extend(self.forget(kind, name));
        }
        match kind {
            Kind::Pools(_) => work.extend(self.own_pools()),
            Kind::Networks => work.extend(self.networks_are_read()),
            Kind::Slices => work.extend(self.pools_with_slices()),
            _ => {}
        }
        work
    }
}

/// Returns the names that are known and were not seen.
pub(super) fn missing<T>(known: &HashMap<Name, T>, seen: &HashSet<Name>) -> Vec<Name> {
    known.keys().filter(|name| !seen.contains(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use crate::controller::shapes::{AddressObject, ClaimObject};
    use crate::controller::state::{Kind, Name, State};
    use crate::controller::watches;
    use serde_json::{Value, json};
    use std::collections::{BTreeSet, HashSet};

    fn name() -> Name {
        Name { namespace: "default".into(), name: "a".into() }
    }

    fn metadata(uid: &str, revision: u32) -> Value {
        json!({"name": "a", "namespace": "default", "uid": uid, "resourceVersion": revision.to_string()})
    }

    fn claim(revision: u32) -> ClaimObject {
        let pool =
            json!({"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool"});
        let object = json!({"metadata": metadata("claim", revision), "spec": {"poolRef": pool}});
        serde_json::from_value(object).unwrap()
    }

    fn answer(revision: u32) -> AddressObject {
        let pool =
            json!({"apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool"});
        let spec = json!({
            "claimRef": {"name": "a"}, "poolRef": pool, "address": "10.0.0.1", "prefix": 24,
        });
        serde_json::from_value(json!({"metadata": metadata("answer", revision), "spec": spec}))
            .unwrap()
    }

    fn state() -> State {
        State::new(BTreeSet::new(), true)
    }

    fn revision(state: &State) -> Option<&str> {
        state.claim(&name()).map(|claim| &*claim.version.revision)
    }

    /// The answer to a claim is written between the moment of the list and its end. The watch tells
    /// of it afterwards.
    #[test]
    fn an_answer_that_is_younger_than_the_list_is_known_again_when_the_watch_tells_of_it() {
        let mut state = state();
        state.begin(Kind::Answers);
        watches::answer(&mut state, &answer(7));
        state.finish(Kind::Answers, &HashSet::new());
        watches::answer(&mut state, &answer(7));
        assert!(state.answer(&name()).is_some());
    }

    /// What was known before the list was asked for, and is not in it, is gone. An answer to a write
    /// of before may still come.
    #[test]
    fn an_answer_that_the_list_does_not_have_is_gone() {
        let mut state = state();
        watches::answer(&mut state, &answer(7));
        state.begin(Kind::Answers);
        state.finish(Kind::Answers, &HashSet::new());
        assert!(state.answer(&name()).is_none());
        watches::answer(&mut state, &answer(8));
        assert!(state.answer(&name()).is_none());
    }

    /// Kinds that the API server does not have are asked for again and again.
    #[test]
    fn what_is_gone_stays_gone_while_another_kind_is_read() {
        let mut state = state();
        watches::answer(&mut state, &answer(7));
        state.remove(Kind::Answers, &name(), "answer");
        state.begin(Kind::Networks);
        watches::answer(&mut state, &answer(8));
        assert!(state.answer(&name()).is_none());
        state.begin(Kind::Answers);
        watches::answer(&mut state, &answer(9));
        assert!(state.answer(&name()).is_some(), "the API server was set back");
    }

    /// One comes from the list, the other from a write, in either order.
    #[test]
    fn of_two_states_that_come_while_a_kind_is_read_the_younger_one_counts() {
        let mut state = state();
        watches::claim(&mut state, &claim(3));
        state.begin(Kind::Claims);
        watches::claim(&mut state, &claim(7));
        watches::claim(&mut state, &claim(5));
        assert_eq!(revision(&state), Some("7"));
        state.finish(Kind::Claims, &HashSet::from([name()]));
        assert_eq!(revision(&state), Some("7"));
    }

    /// Its revisions have gone back.
    #[test]
    fn a_list_of_an_api_server_that_was_set_back_is_believed() {
        let mut state = state();
        watches::claim(&mut state, &claim(7));
        state.begin(Kind::Claims);
        watches::claim(&mut state, &claim(5));
        assert_eq!(revision(&state), Some("5"));
    }
}
