//! An IPAllocation of either kind, as it is read.

use super::claim_object::ClaimObject;
use super::ip_allocation::{IpAllocation, Metadata};
use super::unreadable::Unreadable;
use crate::ipam::HeldAddress;
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
    pub fn decode(json: &[u8]) -> Result<Self, serde_json::Error> {
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
        let error = match serde_json::from_slice(json) {
            Ok(object) => return Ok(Self::Attachment(Box::new(object))),
            Err(error) => error,
        };
        match serde_json::from_slice::<Head>(json) {
            Ok(Head { spec: Holder { claim: Some(_) } }) => {
                serde_json::from_slice(json).map(|object| Self::Claim(Box::new(object)))
            }
            _ => Err(error),
        }
    }

    /// Returns the object if an attachment holds the address.
    #[must_use]
    pub fn of_attachment(self) -> Option<IpAllocation> {
        match self {
            Self::Attachment(object) => Some(*object),
            Self::Claim(_) => None,
        }
    }

    /// Returns the record in the object.
    ///
    /// # Errors
    /// As [`IpAllocation::allocation`] and [`ClaimObject::allocation`].
    pub fn address(&self) -> Result<HeldAddress, Unreadable> {
        match self {
            Self::Attachment(object) => object.allocation().map(HeldAddress::from),
            Self::Claim(object) => object.allocation().map(HeldAddress::from),
        }
    }

    /// Returns whether the object's name matches its scope and address.
    #[must_use]
    pub fn is_named_right(&self) -> bool {
        match self {
            Self::Attachment(object) => object.is_named_right(),
            Self::Claim(object) => object.is_named_right(),
        }
    }

    /// Returns whether the record can be read and the labels do not match it, so that lists miss the
    /// object.
    #[must_use]
    pub fn has_wrong_labels(&self) -> bool {
        match self {
            Self::Attachment(object) => {
                object.allocation().is_ok_and(|held| !object.is_labelled(&held))
            }
            Self::Claim(object) => object.allocation().is_ok_and(|held| !object.is_labelled(&held)),
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
