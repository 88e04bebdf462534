//! An IPAllocation of either kind, as it is read.

use super::claim_object::ClaimObject;
use super::ip_allocation::{IpAllocation, Metadata};
use serde::Deserialize;

/// An IPAllocation, by its kind of holder.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldObject {
    /// An attachment holds the address.
    Attachment(Box<IpAllocation>),
    /// A claim holds the address.
    Claim(Box<ClaimObject>),
}

impl HeldObject {
    /// Decodes an object. An object with `spec.claim` is held by a claim, unless it also has all
    /// keys of an attachment: then [`IpAllocation::allocation`] refuses it.
    ///
    /// # Errors
    /// The object has neither shape. The error is about the shape that it comes closest to.
    pub fn decode(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head {
            spec: Holder,
        }
        #[derive(Deserialize)]
        struct Holder {
            #[serde(default)]
            claim: Option<serde::de::IgnoredAny>,
        }
        // Most objects are of attachments, so each is parsed once.
        let error = match serde_json::from_str(json) {
            Ok(object) => return Ok(Self::Attachment(Box::new(object))),
            Err(error) => error,
        };
        match serde_json::from_str::<Head>(json) {
            Ok(Head { spec: Holder { claim: Some(_) } }) => {
                serde_json::from_str(json).map(|object| Self::Claim(Box::new(object)))
            }
            _ => Err(error),
        }
    }

    /// Returns the object's metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Attachment(object) => &object.metadata,
            Self::Claim(object) => &object.metadata,
        }
    }
}
