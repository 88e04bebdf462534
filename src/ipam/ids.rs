//! Names, parsed once: what a container, an interface, a network, a node, a
//! pod and a scope may be called (CNI spec 1.1.0, "Parameters"; libcni's
//! checks). Whoever holds one of these types need not look again. How a name
//! is written on a disk is the store's matter: `lock`, `a..b` and ids of 300
//! characters are all valid here.

use std::fmt;

/// Longer names are refused: they would be carried in every record.
const LONGEST: usize = 4096;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdError {
    /// A character that the kind of name may not hold.
    Characters,
    /// More bytes than the kind of name may have; the number is the limit.
    TooLong(usize),
    /// `.` or `..`.
    Dots,
    /// Nothing there.
    Empty,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as it was given.
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
    /// What the runtime calls the sandbox: letters, digits, `_`, `.`, `-`,
    /// beginning with a letter or a digit.
    ContainerId
}
name! {
    /// The interface inside the sandbox: 1 to 15 bytes, not `.` or `..`, no
    /// `/`, no `:`, no white space.
    IfName
}
name! {
    /// The name of a CNI network configuration; the same letters as a
    /// container id.
    NetworkName
}
name! {
    /// The machine, as the cluster calls it.
    NodeName
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, the whole of it.
fn parse_plain(text: &str) -> Result<String, IdError> {
    let mut bytes = text.bytes();
    match bytes.next() {
        None => Err(IdError::Empty),
        Some(first) if !first.is_ascii_alphanumeric() => Err(IdError::Characters),
        Some(_) if !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) => Err(IdError::Characters),
        Some(_) if LONGEST < text.len() => Err(IdError::TooLong(LONGEST)),
        Some(_) => Ok(text.to_owned()),
    }
}

impl ContainerId {
    /// # Errors
    /// Empty, too long, or a character that no container id has.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_plain(text).map(Self)
    }
}

impl NetworkName {
    /// # Errors
    /// Empty, too long, or a character that no network name has.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_plain(text).map(Self)
    }
}

impl IfName {
    /// # Errors
    /// What the kernel would not take as an interface name.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text {
            "" => Err(IdError::Empty),
            "." | ".." => Err(IdError::Dots),
            _ if 15 < text.len() => Err(IdError::TooLong(15)),
            _ if text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace()) => Err(IdError::Characters),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl NodeName {
    /// # Errors
    /// Empty, more than 253 bytes, or a character that no host name has.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if 253 < text.len() {
            return Err(IdError::TooLong(253));
        }
        parse_plain(text).map(Self)
    }
}

/// The name space in which an address is unique: Whereabouts' `network_name`,
/// or the unnamed one that all networks without it share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scope(Option<String>);

impl Scope {
    /// The scope of a `network_name`; an empty one is the unnamed scope.
    ///
    /// # Errors
    /// More than 253 bytes.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text {
            "" => Ok(Self(None)),
            _ if 253 < text.len() => Err(IdError::TooLong(253)),
            _ => Ok(Self(Some(text.to_owned()))),
        }
    }

    /// The name, or `None` for the unnamed scope.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Scope {
    /// A name that could be taken for more than a name, in a log or an error,
    /// is quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            None => f.write_str("(unnamed)"),
            Some(name) if name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@')) => f.write_str(name),
            Some(name) => write!(f, "{name:?}"),
        }
    }
}

/// The pod that an interface is for, as `CNI_ARGS` name it. Podman gives a
/// name alone; such a reference is shown but never re-homed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Kubernetes namespace; empty when the runtime gave none.
    pub namespace: String,
    /// Pod name; never empty.
    pub name: String,
    /// Pod uid, when the runtime gave one.
    pub uid: Option<String>,
}

impl PodRef {
    /// Whether namespace and name are both known, without which two pods
    /// cannot be told apart.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.namespace.is_empty() && !self.name.is_empty()
    }

    /// Whether `other` is surely the same pod: both whole, same names, and the
    /// uid equal or absent in both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_whole() && self == other
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
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
