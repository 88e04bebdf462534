//! The answers to claims.

use super::{Answer, Kind, Name, State, Work};
use std::rc::Rc;

impl State {
    /// Notes an answer. Returns what to look at.
    pub fn apply_answer(&mut self, name: Name, answer: Answer) -> Vec<Work> {
        let known = self.answers.get(&name);
        if self.gone.contains(&answer.version.uid)
            || known
                .is_some_and(|known| self.is_old(Kind::Answers, &answer.version, &known.version))
        {
            return Vec::new();
        }
        let mut work = self.take_answer(&name);
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
        if let Some(answer) = self.answers.get(name) {
            self.gone.insert(Rc::clone(&answer.version.uid));
        }
        self.take_answer(name)
    }

    fn take_answer(&mut self, name: &Name) -> Vec<Work> {
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
