//! The node's answer to a Move: it has noted the state durably, and its calls go by it.

use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::objects::move_object::{Executable, MoveObject, NAME, NodeAnswer, PLURAL};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// After this time a node repeats its answer while addresses are shown.
const REPEATED: Duration = Duration::from_secs(60);

impl KubeStore {
    /// Looks at the Move, notes its state durably, and then answers, if the last answer is another
    /// one or old. Returns whether to look again soon: addresses are shown, or the state is new.
    ///
    /// # Errors
    /// The API server cannot be asked, or the cluster was restored to an older state.
    pub fn answer_move(
        &self,
        executable: Executable,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let (object, is_urgent) = self.look_at_move(deadline)?;
        let Some(object) = object else { return Ok(is_urgent) };
        let now = self.now();
        let answer = NodeAnswer {
            generation: object.spec.generation,
            executable,
            at: humantime::format_rfc3339_seconds(now).to_string(),
        };
        let node = self.host.node.as_str();
        if is_needed(&object, node, &answer, now) {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            let status = json!({"nodes": {node: answer}});
            self.api.merge_status(PLURAL, NAME, uid, &status, deadline)?;
        }
        Ok(is_urgent)
    }
}

/// Returns whether the last answer of a node is another one, or old. When addresses are not shown any
/// more, an answer that stays the same is not repeated: nothing waits for it.
fn is_needed(object: &MoveObject, node: &str, answer: &NodeAnswer, now: SystemTime) -> bool {
    let Some(last) = object.status.nodes.get(node) else { return true };
    let is_old = || {
        let at = humantime::parse_rfc3339_weak(&last.at).ok();
        // A time in the future was written by another clock.
        at.and_then(|at| now.duration_since(at).ok()).is_none_or(|ago| REPEATED <= ago)
    };
    (last.generation, last.executable) != (answer.generation, answer.executable)
        || object.spec.state.shows_addresses() && is_old()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kube::objects::move_object::MoveState;

    #[test]
    fn an_answer_is_repeated_if_it_differs_or_is_old() {
        let at = |text: &str| humantime::parse_rfc3339_weak(text).unwrap();
        let answer = |generation, executable| NodeAnswer {
            generation,
            executable,
            at: "2026-11-30T10:00:00Z".to_owned(),
        };
        let mut object = MoveObject::new(String::new());
        let (same, soon) = (answer(1, Executable::Other), at("2026-11-30T10:00:59Z"));
        assert!(is_needed(&object, "n1", &same, soon), "the first one");
        object.status.nodes.insert("n1".to_owned(), same.clone());
        assert!(!is_needed(&object, "n1", &same, soon));
        assert!(is_needed(&object, "n2", &same, soon));
        assert!(is_needed(&object, "n1", &answer(2, Executable::Other), soon));
        assert!(is_needed(&object, "n1", &answer(1, Executable::Hereabouts), soon));
        for late in ["2026-11-30T10:01:00Z", "2026-11-30T09:00:00Z"] {
            assert!(is_needed(&object, "n1", &same, at(late)), "{late}");
            object.spec.state = MoveState::Finished;
            assert!(!is_needed(&object, "n1", &same, at(late)), "{late}");
            object.spec.state = MoveState::Shared;
        }
    }
}
