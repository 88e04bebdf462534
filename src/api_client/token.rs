//! The claims of a ServiceAccount token: it is a JSON Web Token, and the client can read its middle
//! part.
//!
//! The claims decide nothing that the server does not check. They are used to tell two clusters
//! apart.

use super::way::Account;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The maximum length of a name or a UID, in bytes. The names of a ServiceAccount and its namespace
/// are shorter.
const LONGEST: usize = 512;

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    #[serde(rename = "kubernetes.io")]
    bound: Option<Bound>,
    /// The claim of tokens in Secrets, which never expire.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: Option<String>,
}

#[derive(Deserialize)]
struct Bound {
    serviceaccount: Option<Named>,
    node: Option<OfNode>,
}

#[derive(Deserialize)]
struct OfNode {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct Named {
    uid: Option<String>,
}

/// Returns the ServiceAccount of a token, or `None` for any other token.
pub(crate) fn account(token: &str) -> Option<Account> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let name = claims.sub?.strip_prefix("system:serviceaccount:")?.to_owned();
    let uid = claims
        .bound
        .and_then(|bound| bound.serviceaccount)
        .and_then(|account| account.uid)
        .or(claims.uid)?;
    let short = |text: &str| !text.is_empty() && text.len() <= LONGEST;
    (short(&name) && short(&uid)).then_some(Account { name, uid })
}

/// Returns the name and the UID of the Node that a token is bound to, directly or through its pod.
pub(crate) fn node(token: &str) -> Option<(String, String)> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let node = serde_json::from_slice::<Claims>(&claims).ok()?.bound?.node?;
    let short = |text: &str| !text.is_empty() && text.len() <= LONGEST;
    (short(&node.name) && short(&node.uid)).then_some((node.name, node.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_from_both_kinds_of_tokens_and_from_nothing_else() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        for (claims, uid) in [
            (
                r#"{"sub":"system:serviceaccount:n:h","kubernetes.io":{"namespace":"n","serviceaccount":{"name":"h","uid":"u1"}}}"#,
                Some("u1"),
            ),
            (
                r#"{"sub":"system:serviceaccount:n:h","kubernetes.io/serviceaccount/service-account.uid":"u2"}"#,
                Some("u2"),
            ),
            (r#"{"sub":"somebody","kubernetes.io":{"serviceaccount":{"uid":"u"}}}"#, None),
            (
                r#"{"sub":"system:serviceaccount:n:h","kubernetes.io":{"serviceaccount":{"uid":""}}}"#,
                None,
            ),
            (r#"{"kubernetes.io":3}"#, None),
        ] {
            let expected = uid.map(|uid| Account { name: "n:h".to_owned(), uid: uid.to_owned() });
            assert_eq!(account(&token(claims)), expected, "{claims}");
        }
        assert_eq!(["x", "", "a.b", "a.b.c", "..", "e30.!.e30"].map(account), [const { None }; 6]);
    }
}
