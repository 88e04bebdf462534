//! Retries of a call to the API server: which answers lead to another attempt, which are final, and
//! which error a failed call returns.

use super::Api;
use super::answer::{is_terminating, is_unserved, newer, status};
use crate::api_client::client::CallError;
use crate::api_client::http::{Answer, Method, Request};
use crate::ipam::IPAM_CLAIM_GROUP;
use crate::retry::{self, Attempt, Deadline, Pace};
use crate::store::StoreError;
use crate::store::kube::objects::error_text::on_one_line;
use crate::store::kube::objects::held::HeldObject;
use crate::store::kube::objects::ip_allocation::{GROUP, IpAllocation, PLURAL};
use std::cell::Cell;
use std::time::Duration;

/// The resource of a node.
pub(crate) const NODES: &str = "nodes";
/// The resource of a pod.
pub(crate) const PODS: &str = "pods";
/// The resource of a Lease.
pub(crate) const LEASES: &str = "leases";
/// The resource of an IPAMClaim.
pub(crate) const IPAM_CLAIMS: &str = "ipamclaims";

/// The limit of one attempt: a server that has fallen silent may be replaced by one that answers.
const ATTEMPT: Duration = Duration::from_secs(10);

/// The time after which a newly created definition is served. Until then the server answers 404 in
/// plain text, then 429.
const YOUNG: Duration = Duration::from_secs(1);

/// A call that failed, and whether it may have been carried out or may still be.
pub(crate) struct Failed {
    pub(crate) error: StoreError,
    pub(crate) outcome_unknown: bool,
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// A call, described for messages and for the reading of its answer.
pub(crate) struct Call<'a> {
    /// The resource's plural name.
    pub(crate) resource: &'static str,
    pub(crate) verb: &'static str,
    pub(crate) name: Option<&'a str>,
    pub(crate) request: Request<'a>,
}

impl Call<'_> {
    /// Returns the resource with its group.
    fn whole_resource(&self) -> String {
        match self.resource {
            NODES | PODS => self.resource.to_owned(),
            LEASES => format!("{LEASES}.coordination.k8s.io"),
            IPAM_CLAIMS => format!("{IPAM_CLAIMS}.{IPAM_CLAIM_GROUP}"),
            whole if whole.contains('.') => whole.to_owned(),
            ours => format!("{ours}.{GROUP}"),
        }
    }
}

impl Api {
    /// Returns the error for a missing right.
    pub(crate) fn lacks(&self, verb: &str) -> StoreError {
        StoreError::Refused {
            server: self.server.url(),
            call: format!("{verb} {PLURAL}"),
            status: 403,
            reason: format!("the kubeconfig's user lacks the right to {verb} {PLURAL}.{GROUP}"),
        }
    }

    /// Sends a call until an answer is final. `read` returns the value of the answers that it
    /// knows; the other answers are judged here.
    pub(crate) fn call<T>(
        &self,
        call: &Call<'_>,
        deadline: &Deadline,
        mut read: impl FnMut(&Answer, bool) -> Result<Option<T>, Failed>,
    ) -> Result<T, Failed> {
        let outcome_unknown = Cell::new(false);
        let mut last = String::new();
        let mut stale_token = false;
        let mut young: Option<Deadline> = None;
        let outcome = retry::until_paced(deadline, Pace::SERVER, || {
            // Even at the very end, one short attempt is made.
            let limit = deadline.left().clamp(Duration::from_millis(100), ATTEMPT);
            match self.server.call(&call.request, limit) {
                Ok(answer) => {
                    if let Some(value) = read(&answer, outcome_unknown.get())? {
                        return Ok(Attempt::Done(value));
                    }
                    // The token may have been renewed after its file was read and before the server
                    // checked it. The next call reads the file again.
                    if answer.status == 401 && !std::mem::replace(&mut stale_token, true) {
                        last = on_one_line(&status(&answer).message);
                        return Ok(Attempt::Again(Duration::ZERO));
                    }
                    if answer.status == 404 && is_unserved(&answer) {
                        let young = young.get_or_insert_with(|| Deadline::after(YOUNG));
                        if !young.left().is_zero() {
                            last = on_one_line(&status(&answer).message);
                            return Ok(Attempt::Again(Duration::ZERO));
                        }
                    }
                    let pause = self.classify(call, &answer, &mut last).map_err(|error| {
                        Failed { error, outcome_unknown: outcome_unknown.get() }
                    })?;
                    // The server answers 429 before it does anything. After the other answers the
                    // outcome is unknown.
                    outcome_unknown.set(outcome_unknown.get() || answer.status != 429);
                    Ok(Attempt::Again(pause))
                }
                Err(error) => {
                    outcome_unknown
                        .set(outcome_unknown.get() || matches!(error, CallError::Unknown { .. }));
                    last = error.to_string();
                    if error.may_pass() {
                        return Ok(Attempt::Again(Duration::ZERO));
                    }
                    Err(self.unreachable(call, "one attempt", &last, outcome_unknown.get(), false))
                }
            }
        })?;
        outcome.ok_or_else(|| {
            let waited = humantime::format_duration(deadline.limit()).to_string();
            self.unreachable(call, &waited, &last, outcome_unknown.get(), true)
        })
    }

    /// Judges an answer that has no value. Returns the pause before the next attempt, or the error
    /// that no further attempt would change.
    fn classify(
        &self,
        call: &Call<'_>,
        answer: &Answer,
        last: &mut String,
    ) -> Result<Duration, StoreError> {
        let message = status(answer).message;
        let server = self.server.url();
        match answer.status {
            408 | 425 | 429 | 500..=599 => {
                *last = format!("HTTP status {}: {}", answer.status, on_one_line(&message));
                Ok(answer.retry_after.unwrap_or(Duration::ZERO))
            }
            // 405: the definition is being deleted.
            404 | 405 => Err(StoreError::NoResource { server, resource: call.whole_resource() }),
            403 if is_terminating(answer) => {
                let reason = format!(
                    "the definition of {} is being deleted: {}",
                    call.whole_resource(),
                    on_one_line(&message)
                );
                Err(StoreError::Refused { server, call: describe(call), status: 403, reason })
            }
            422 if let Some(reason) = denial(&message) => {
                Err(StoreError::Denied { server, call: describe(call), reason })
            }
            code => {
                let advice = match code {
                    401 => {
                        "the token or certificate of the kubeconfig is no longer valid: ".to_owned()
                    }
                    403 => format!(
                        "the kubeconfig's user lacks the right to {} {}: ",
                        call.verb,
                        call.whole_resource()
                    ),
                    _ => String::new(),
                };
                let reason = format!("{advice}{}", on_one_line(&message));
                Err(StoreError::Refused { server, call: describe(call), status: code, reason })
            }
        }
    }

    pub(crate) fn decode(&self, verb: &str, answer: &Answer) -> Result<IpAllocation, Failed> {
        serde_json::from_slice(&answer.body).map_err(|error| self.undecodable(verb, answer, &error))
    }

    /// Decodes an object of either kind of holder.
    pub(crate) fn decode_held(&self, verb: &str, answer: &Answer) -> Result<HeldObject, Failed> {
        HeldObject::decode(&answer.body).map_err(|error| self.undecodable(verb, answer, &error))
    }

    fn undecodable(&self, verb: &str, answer: &Answer, error: &serde_json::Error) -> Failed {
        match newer(&answer.body) {
            Some(newer) => Failed { error: newer, outcome_unknown: true },
            None => self.unreadable(verb, &error.to_string()),
        }
    }

    /// Returns the error for an answer of the right status with the wrong content: from another
    /// version of the resource, or from a proxy that answers by itself.
    pub(crate) fn unreadable(&self, verb: &str, reason: &str) -> Failed {
        let server = self.server.url();
        let reason = format!("unexpected answer: {}", on_one_line(reason));
        Failed {
            error: StoreError::Refused {
                server,
                call: format!("{verb} {PLURAL}.{GROUP}"),
                status: 200,
                reason,
            },
            outcome_unknown: true,
        }
    }

    fn unreachable(
        &self,
        call: &Call<'_>,
        waited: &str,
        reason: &str,
        outcome_unknown: bool,
        is_away: bool,
    ) -> Failed {
        let server = self.server.url();
        let writes = !matches!(call.request.method, Method::Get);
        let still = if outcome_unknown && writes { "; it may still take effect" } else { "" };
        let (call, waited, reason) =
            (describe(call), waited.to_owned(), format!("{}{still}", on_one_line(reason)));
        Failed {
            error: StoreError::Unreachable { server, call, waited, reason, is_away },
            outcome_unknown,
        }
    }
}

/// Returns the text of the policy of deploy/node/policy.yaml if a 422 is its denial, and not the
/// schema's or another policy's.
fn denial(message: &str) -> Option<String> {
    let (policy, words) = message.split_once(" denied request: ")?;
    let is_ours = policy.contains("ValidatingAdmissionPolicy")
        && words.starts_with("a token changes only records of its own node");
    is_ours.then(|| on_one_line(words))
}

fn describe(call: &Call<'_>) -> String {
    let Call { resource, verb, name, .. } = call;
    name.map_or_else(|| format!("{verb} {resource}"), |name| format!("{verb} {resource}/{name}"))
}
