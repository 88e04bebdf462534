//! The answers of the API server, in the parts that are read: pages of lists, tables, and the
//! Status of a failure.

use crate::api_client::http::Answer;
use crate::store::StoreError;
use crate::store::kube::objects::held::HeldObject;
use crate::store::kube::objects::ip_allocation::{FORMAT, KIND};
use crate::store::kube::objects::unreadable::{Unreadable, damaged};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize, Default)]
pub(crate) struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
    #[serde(default, rename = "resourceVersion")]
    revision: String,
}

impl ListMetadata {
    /// Returns the cluster's revision at the time of the list.
    pub(crate) fn revision(&self) -> Option<String> {
        Some(self.revision.clone()).filter(|revision| !revision.is_empty())
    }

    pub(crate) fn next(self) -> Option<String> {
        Some(self.next).filter(|next| !next.is_empty())
    }
}

#[derive(Deserialize)]
pub(crate) struct List {
    #[serde(default)]
    pub(crate) metadata: ListMetadata,
    pub(crate) items: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(crate) struct Table {
    #[serde(default)]
    pub(crate) metadata: ListMetadata,
    #[serde(default)]
    pub(crate) rows: Vec<Row>,
}

#[derive(Deserialize)]
pub(crate) struct Row {
    pub(crate) cells: Cells,
}

/// The first cell of a row, which is the name. The other cells are for people.
pub(crate) struct Cells(pub(crate) String);

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> serde::de::Visitor<'de> for First {
            type Value = Cells;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("cells that begin with a name")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut cells: A,
            ) -> Result<Cells, A::Error> {
                let name = cells
                    .next_element()?
                    .ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                while cells.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Cells(name))
            }
        }
        deserializer.deserialize_seq(First)
    }
}

#[derive(Deserialize, Default)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) metadata: ListMetadata,
    #[serde(default)]
    pub(crate) message: String,
    /// The reason as a word for programs.
    #[serde(default)]
    reason: String,
    #[serde(default)]
    pub(crate) details: Details,
}

#[derive(Deserialize, Default)]
pub(crate) struct Details {
    #[serde(default)]
    pub(crate) name: String,
}

/// Returns the API's own message on a failure, or the first line of a proxy's page.
pub(crate) fn status(answer: &Answer) -> Status {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&answer.body);
        Status { message: text.lines().next().unwrap_or_default().to_owned(), ..Status::default() }
    })
}

/// Returns whether this is the server's answer to a removal: the object that is being removed, or a
/// Status of success. An answer from anything in between, such as a proxy, frees nothing.
pub(crate) fn is_removal(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        #[serde(default)]
        status: serde_json::Value,
    }
    let head = serde_json::from_slice::<Head>(&answer.body);
    head.is_ok_and(|head| head.kind == KIND || head.kind == "Status" && head.status == "Success")
}

/// Returns whether a 409 says that the name of a creation is taken. A conflict of another kind, for
/// example from a webhook, would occur with every name.
pub(crate) fn is_taken(answer: &Answer) -> bool {
    status(answer).reason == "AlreadyExists"
}

/// Returns whether a 403 is about the definition of the resource, which is being deleted. Then no
/// client may create objects, whatever rights it has. The server sends no word for programs with
/// it.
pub(crate) fn is_terminating(answer: &Answer) -> bool {
    status(answer).message.contains("custom resource definition is terminating")
}

/// Returns whether a 404 does not come from the API itself. Then the definition of the resource is
/// missing, or it is so new that it is not served yet.
pub(crate) fn is_unserved(answer: &Answer) -> bool {
    serde_json::from_slice::<Status>(&answer.body).is_err()
}

/// Returns whether a 404 is about the object. Without the object's name it is about the resource.
pub(crate) fn is_absent(answer: &Answer) -> bool {
    !status(answer).details.name.is_empty()
}

pub(crate) fn decode_item(item: &str) -> Result<HeldObject, StoreError> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    HeldObject::decode(item.as_bytes()).map_err(|error| {
        newer(item.as_bytes()).unwrap_or_else(|| {
            let name = serde_json::from_str::<Head>(item)
                .map_or_else(|_| "?".to_owned(), |head| head.metadata.name);
            damaged(&name, &error.to_string())
        })
    })
}

/// Returns the error for an object of a later version. Only its name and its format are known.
pub(crate) fn newer(object: &[u8]) -> Option<StoreError> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        metadata: Named,
        spec: Format,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let head: Head = serde_json::from_slice(object).ok()?;
    let is_newer = head.kind == KIND && FORMAT < head.spec.format;
    is_newer.then(|| Unreadable::Newer(head.spec.format).of(&head.metadata.name))
}
