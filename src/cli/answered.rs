//! Sends one request with an operator's kubeconfig until the server answers it.

use crate::api_client::client::Client;
use crate::api_client::http::{Answer, Request};
use crate::retry::{self, Attempt, Deadline, Pace};
use std::time::Duration;

/// The time limit of one attempt.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Sends a request until the server answers it, with whatever status. An answer that says that a later
/// attempt may succeed is none.
///
/// # Errors
/// No answer came until the deadline, or none can come. The reason, in words.
pub(super) fn answered(
    client: &Client,
    request: &Request<'_>,
    deadline: &Deadline,
) -> Result<Answer, String> {
    let mut last = String::new();
    let answer = retry::until_paced(deadline, Pace::SERVER, || {
        let limit = deadline.left().clamp(Duration::from_millis(100), ATTEMPT);
        match client.call(request, limit) {
            Ok(answer) if matches!(answer.status, 408 | 425 | 429 | 500..=599) => {
                last = format!("HTTP status {}", answer.status);
                Ok(Attempt::Again(answer.retry_after.unwrap_or(Duration::ZERO)))
            }
            Ok(answer) => Ok(Attempt::Done(answer)),
            Err(error) if error.may_pass() => {
                last = error.to_string();
                Ok(Attempt::Again(Duration::ZERO))
            }
            Err(error) => Err(error.to_string()),
        }
    })?;
    answer.ok_or(last)
}
