//! The answers to claims.

use super::{Answer, Kind, Name, State, Work};
use std::rc::Rc;

impl State {
    /// Notes an answer. Returns what to look at.
    pub fn apply_answer(&mut self, name: Name, answer: Answer) -> Vec<Work> {
        let known = self.answers.get(&name).map(|known| &known.version);
        if self.is_old(Kind::Answers, &name, &answer.version, known) {
            return Vec::new();
        }
        self.listings.note(Kind::Answers, &name);
        let mut work = self.remove_answer(&name);
        if let (Some(pool), Some(address)) = (&answer.pool, answer.address) {
            self.answers_of.entry(Rc::clone(pool)).or_default().insert((address, name.clone()));
            work.push(Work::Pool(Rc::clone(pool)));
        }
        // Two controllers may each have got an address for this claim. The answer has one of them.
        if let Some(uid) = &answer.claim_uid {
            work.extend(self.held.of_claim(uid).map(Work::Allocation));
        }
        self.answers.insert(name.clone(), answer);
        work.extend([Work::Claim(name.clone()), Work::Adoption(name)]);
        work
    }

    pub(super) fn remove_answer(&mut self, name: &Name) -> Vec<Work> {
        let Some(answer) = self.answers.remove(name) else {
            return Vec::new();
        };
        self.conflicts.remove(name);
        self.left.remove(name);
        let mut work = vec![Work::Claim(name.clone())];
        let holders = [Some(&answer.version.uid), answer.claim_uid.as_ref()];
        for uid in holders.into_iter().flatten() {
            work.extend(self.held.of_claim(uid).map(Work::Allocation));
        }
        if let (Some(pool), Some(address)) = (&answer.pool, answer.address) {
            if let Some(answers) = self.answers_of.get_mut(pool) {
                answers.remove(&(address, name.clone()));
                if answers.is_empty() {
                    self.answers_of.remove(pool);
                }
            }
            work.push(Work::Pool(Rc::clone(pool)));
            work.extend(self.next_in_line(pool, address));
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::pool::PoolKind;
    use crate::controller::state::{ClaimHolder, Holder, Holding, Version};
    use crate::controller::watches;
    use crate::store::kube::objects::names;
    use serde_json::json;
    use std::collections::BTreeSet;

    /// Somebody wrote it. It must be held before somebody else gets its address.
    #[test]
    fn an_answer_is_looked_at_when_another_holder_frees_its_address() {
        let mut state = State::new(BTreeSet::new(), true);
        let pool = json!({
            "metadata": {"name": "pool", "namespace": "default", "uid": "pool"},
            "spec": {"addresses": ["10.0.0.1-10.0.0.9"], "prefix": 24},
        });
        let pool = serde_json::from_value(pool).unwrap();
        watches::pool(&mut state, PoolKind::InCluster, &pool);
        for (name, address) in [("a", "10.0.0.5"), ("b", "10.0.0.4"), ("c", "10.0.0.5")] {
            let answer = json!({
                "metadata": {"name": name, "namespace": "default", "uid": name},
                "spec": {
                    "claimRef": {"name": name}, "address": address, "prefix": 24,
                    "poolRef": {
                        "apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool",
                    },
                },
            });
            watches::answer(&mut state, &serde_json::from_value(answer).unwrap());
        }
        let holder = ClaimHolder {
            kind: "IPAddressClaim".to_owned(),
            uid: "other".into(),
            name: Name { namespace: "default".into(), name: "other".into() },
            pool: None,
            prefix: 24,
            gateway: None,
            is_ending: false,
            later_format: None,
        };
        let version = Version { uid: "held".into(), revision: "7".into() };
        let holding = Holding { version, holder: Holder::Claim(Box::new(holder)) };
        let scope = state.pools().next().unwrap().1.scope.clone();
        let held = names::object(&scope, "10.0.0.5".parse().unwrap());
        state.apply_allocation(&held, holding);

        let held = Name { namespace: "".into(), name: held.as_str().into() };
        let work = state.remove(Kind::Allocations, &held, "held");
        let adopted = work.iter().filter_map(|work| match work {
            Work::Adoption(name) => Some(&*name.name),
            _ => None,
        });
        assert_eq!(adopted.collect::<Vec<_>>(), ["a", "c"]);
    }
}
