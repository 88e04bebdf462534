//! Names and the rules for them: container, interface, network, node, pod and scope (CNI
//! specification 1.1.0, "Parameters", and the checks of libcni).
//!
//! A value of one of these types was checked when it was parsed, and needs no further check. Each
//! store decides how to write a name to disk. `lock`, `a..b` and IDs of 300 characters are all
//! valid here.

use std::fmt;

/// The maximum length of a name, in bytes. A longer one would be stored in every record.
const LONGEST: usize = 4096;

/// The reasons why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdError {
    /// It contains a character that this kind of name does not allow.
    Characters,
    /// It is too long. Contains the maximum number of bytes.
    TooLong(usize),
    /// It is `.` or `..`.
    Dots,
    /// It is empty.
    Empty,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// Returns the name as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The runtime's ID of the sandbox: letters, digits, `_`, `.` and `-`, beginning with a letter
    /// or a digit.
    ContainerId
}
name! {
    /// The interface inside the sandbox: 1 to 15 bytes, not `.` or `..`, without `/`, `:` and white
    /// space.
    IfName
}
name! {
    /// The name of a CNI network configuration. It allows the same characters as a container ID.
    NetworkName
}
name! {
    /// The name of the node in the cluster.
    NodeName
}

/// Parses `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn parse_plain(text: &str) -> Result<String, IdError> {
    let mut bytes = text.bytes();
    match bytes.next() {
        None => Err(IdError::Empty),
        Some(first) if !first.is_ascii_alphanumeric() => Err(IdError::Characters),
        Some(_) if !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) => {
            Err(IdError::Characters)
        }
        Some(_) if LONGEST < text.len() => Err(IdError::TooLong(LONGEST)),
        Some(_) => Ok(text.to_owned()),
    }
}

impl ContainerId {
    /// Parses a container ID.
    ///
    /// # Errors
    /// Fails for a text that is empty, too long, or contains a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_plain(text).map(Self)
    }
}

impl NetworkName {
    /// Parses a network name.
    ///
    /// # Errors
    /// Fails for a text that is empty, too long, or contains a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_plain(text).map(Self)
    }
}

impl IfName {
    /// Parses an interface name.
    ///
    /// # Errors
    /// Fails for a text that the kernel does not accept as an interface name.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text {
            "" => Err(IdError::Empty),
            "." | ".." => Err(IdError::Dots),
            _ if 15 < text.len() => Err(IdError::TooLong(15)),
            _ if text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace()) => {
                Err(IdError::Characters)
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl NodeName {
    /// Parses a node name.
    ///
    /// # Errors
    /// Fails for a text that is empty, longer than 253 bytes, or contains a character that is not
    /// allowed in a host name.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if 253 < text.len() {
            return Err(IdError::TooLong(253));
        }
        parse_plain(text).map(Self)
    }
}

/// The scope in which an address is unique: Whereabouts' `network_name`, or the unnamed scope that
/// all networks without it share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scope(Option<String>);

impl Scope {
    /// The begin of the names that are kept for pools of Cluster API.
    pub const OF_CLUSTER_API: &str = "capi:";
    /// The begin of the names that are kept for the users of IPAMClaims.
    pub const OF_CLAIM_USERS: &str = "ipamclaim:";
    /// The begin of the names that are kept for pools with slices.
    pub const OF_SLICES: &str = "pool:";

    /// Parses a `network_name`. An empty text is the unnamed scope.
    ///
    /// # Errors
    /// Fails for a text of more than 253 bytes.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text {
            "" => Ok(Self(None)),
            _ if 253 < text.len() => Err(IdError::TooLong(253)),
            _ => Ok(Self(Some(text.to_owned()))),
        }
    }

    /// Returns whether the scope is kept for a pool of Cluster API. Such a scope is named after the
    /// kind, namespace and name of the pool, and no configuration may name it.
    #[must_use]
    pub fn is_of_cluster_api(&self) -> bool {
        self.name().is_some_and(|name| name.starts_with(Self::OF_CLUSTER_API))
    }

    /// Returns the scope in which a user of an IPAMClaim holds the addresses of the claim. A claim has
    /// two of them, with the numbers 0 and 1, so it never has more than two users. `uid` is that of
    /// the claim. No configuration may name such a scope.
    #[must_use]
    pub fn of_claim_user(uid: &str, number: u8) -> Self {
        Self(Some(format!("{}{number}:{uid}", Self::OF_CLAIM_USERS)))
    }

    /// Returns the uid of the IPAMClaim if the scope is that of a user of one.
    #[must_use]
    pub fn used_claim(&self) -> Option<&str> {
        let (number, uid) = self.name()?.strip_prefix(Self::OF_CLAIM_USERS)?.split_once(':')?;
        (["0", "1"].contains(&number) && !uid.is_empty()).then_some(uid)
    }

    /// Returns whether the scope is kept for users of IPAMClaims.
    #[must_use]
    pub fn is_of_claim_user(&self) -> bool {
        self.name().is_some_and(|name| name.starts_with(Self::OF_CLAIM_USERS))
    }

    /// Returns the scope of a pool with slices. No configuration may name it, so that nothing gives
    /// addresses there that does not know of the slices.
    #[must_use]
    pub fn of_slices(pool: &str) -> Self {
        Self(Some(format!("{}{pool}", Self::OF_SLICES)))
    }

    /// Returns the pool if the scope is that of a pool with slices.
    #[must_use]
    pub fn sliced_pool(&self) -> Option<&str> {
        self.name()?.strip_prefix(Self::OF_SLICES)
    }

    /// Returns whether the scope is that of a pool with slices.
    #[must_use]
    pub fn is_of_slices(&self) -> bool {
        self.sliced_pool().is_some()
    }

    /// Returns the name, or `None` for the unnamed scope.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Scope {
    /// Quotes a name that could be mistaken for more than a name in a log or an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            None => f.write_str("(unnamed)"),
            Some(name)
                if name.chars().all(|c| {
                    c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@')
                }) =>
            {
                f.write_str(name)
            }
            Some(name) => write!(f, "{name:?}"),
        }
    }
}

/// The pod of an interface, as `CNI_ARGS` names it. Podman gives a name only. Such a pod is shown,
/// but its addresses are never re-homed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// The Kubernetes namespace, or empty if the runtime gave none.
    pub namespace: String,
    /// The name of the pod. Never empty.
    pub name: String,
    /// The UID of the pod, if the runtime gave one.
    pub uid: Option<String>,
}

impl PodRef {
    /// Returns whether the namespace and the name are both known. Without them, two pods cannot be
    /// told apart.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.namespace.is_empty() && !self.name.is_empty()
    }

    /// Returns whether `other` is certainly the same pod: both are whole, have the same names, and
    /// either the same UID or no UID.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_whole() && self == other
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookkeeping_words_and_dots_are_valid_ids() {
        for text in ["lock", "a..b", "a.", "0", "last_reserved_ip.0"] {
            assert!(ContainerId::parse(text).is_ok(), "{text}");
            assert!(NetworkName::parse(text).is_ok(), "{text}");
        }
        assert!(ContainerId::parse(&"a".repeat(300)).is_ok());
    }

    #[test]
    fn hostile_ids_are_not() {
        for text in ["", "../x", "a/b", ".a", "-a", "_a", "a b", "ab\n", "\u{e9}", "a:b", "a%00b"] {
            assert!(ContainerId::parse(text).is_err(), "{text:?}");
        }
        assert!(ContainerId::parse(&"a".repeat(5000)).is_err());
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for text in ["...", "-x", "a@b", "a%d", "\u{1}", "123456789012345"] {
            assert!(IfName::parse(text).is_ok(), "{text:?}");
        }
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\t",
            "\u{a0}",
            "\u{2003}",
            "1234567890123456",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert!(IfName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn pods_without_namespace_or_with_another_uid_are_not_the_same() {
        let pod = |namespace: &str, uid: Option<&str>| PodRef {
            namespace: namespace.to_owned(),
            name: "web-0".to_owned(),
            uid: uid.map(str::to_owned),
        };
        assert!(pod("a", None).is_same(&pod("a", None)));
        assert!(pod("a", Some("1")).is_same(&pod("a", Some("1"))));
        assert!(!pod("a", Some("1")).is_same(&pod("a", Some("2"))));
        assert!(!pod("a", Some("1")).is_same(&pod("a", None)));
        assert!(!pod("", None).is_same(&pod("", None)));
    }
}
