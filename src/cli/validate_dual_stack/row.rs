//! One row of the result: what was checked, its addresses of each family, and the verdict.

use crate::addr::Family;
use crate::cli::output;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Texts of addresses, or of blocks of addresses, by family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ByFamily {
    pub(super) ipv4: Vec<String>,
    pub(super) ipv6: Vec<String>,
}

impl ByFamily {
    /// Sorts texts into the two families. Passes over texts that are not addresses.
    pub(super) fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut sorted = Self::default();
        for text in texts {
            match family(text) {
                Some(Family::V4) => sorted.ipv4.push(text.to_owned()),
                Some(Family::V6) => sorted.ipv6.push(text.to_owned()),
                None => {}
            }
        }
        sorted
    }

    /// Returns whether there is something of each family.
    pub(super) fn is_dual(&self) -> bool {
        !self.ipv4.is_empty() && !self.ipv6.is_empty()
    }

    /// Returns what is missing, for example `no IPv6 address`.
    pub(super) fn missing(&self, what: &str) -> Option<String> {
        match (self.ipv4.is_empty(), self.ipv6.is_empty()) {
            (false, false) => None,
            (true, false) => Some(format!("no IPv4 {what}")),
            (false, true) => Some(format!("no IPv6 {what}")),
            (true, true) => Some(format!("no {what}")),
        }
    }

    /// Returns the verdict: ok, or what is missing.
    pub(super) fn verdict(&self, what: &str) -> Verdict {
        self.missing(what).map_or(Verdict::Good, Verdict::Gap)
    }
}

/// Returns the family of an address or a block.
pub(super) fn family(text: &str) -> Option<Family> {
    text.split('/').next()?.parse::<IpAddr>().ok().map(Family::of)
}

/// The verdict on one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both families are there.
    Good,
    /// It asks for one family.
    SingleStack,
    /// It has the addresses of this node, whose own row names what is missing.
    LikeNode(String),
    /// It was not checked, and why.
    NotChecked(String),
    /// What is missing.
    Gap(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::SingleStack => "singleStack",
            Self::LikeNode(_) => "likeNode",
            Self::NotChecked(_) => "notChecked",
            Self::Gap(_) => "gap",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Good | Self::SingleStack => None,
            Self::LikeNode(reason) | Self::NotChecked(reason) | Self::Gap(reason) => Some(reason),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Good => "ok".to_owned(),
            Self::SingleStack => "single stack".to_owned(),
            Self::LikeNode(node) => format!("like node {node}"),
            Self::NotChecked(reason) => format!("not checked: {reason}"),
            Self::Gap(reason) => format!("gap: {reason}"),
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The kind of the object.
    pub(super) kind: &'static str,
    /// The namespace of the object, or nothing.
    pub(super) namespace: String,
    pub(super) name: String,
    /// What of the object was checked.
    pub(super) what: String,
    pub(super) found: ByFamily,
    pub(super) verdict: Verdict,
}

impl Row {
    pub(super) const HEADINGS: [&'static str; 6] =
        ["KIND", "NAME", "WHAT", "IPV4", "IPV6", "VERDICT"];

    /// Returns the row for people.
    pub(super) fn cells(&self) -> [String; 6] {
        let name = match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        };
        let joined = |texts: &[String]| match texts {
            [] => "-".to_owned(),
            texts => texts.join(","),
        };
        // Annotations of pods may have any text.
        [
            self.kind.to_owned(),
            name,
            output::printable(&self.what),
            output::printable(&joined(&self.found.ipv4)),
            output::printable(&joined(&self.found.ipv6)),
            output::printable(&self.verdict.text()),
        ]
    }

    /// Returns the row for programs. The keys are documented and stable.
    pub(super) fn document(&self) -> Value {
        json!({
            "kind": self.kind,
            "namespace": Some(&self.namespace).filter(|namespace| !namespace.is_empty()),
            "name": self.name,
            "what": self.what,
            "ipv4": self.found.ipv4,
            "ipv6": self.found.ipv6,
            "verdict": self.verdict.word(),
            "reason": self.verdict.reason(),
        })
    }
}
