//! `pool convert`: prints the pools of other programs as pools of hereabouts, and names everything
//! that has no counterpart.
//!
//! - `source`: an object that is converted, and what is said about it
//! - `addresses`: addresses as other programs write them, and the subnets around them
//! - `manifest`: a pool as a Kubernetes object, in YAML and JSON
//! - `selector`: selectors of nodes
//! - `kinds`: the table of the kinds that can be converted
//! - `in_cluster`: the pools of Cluster API's in-cluster provider
//! - `cluster_cidr`: ClusterCIDRConfig and ClusterCIDR, with blocks for nodes
//! - `whereabouts`, `nvidia`, `spider`: the pools of these plugins
//! - `pod_cidr`: the pools of Calico and Cilium for pods
//! - `load_balancer`: the pools of MetalLB and Cilium for Services

mod addresses;
mod cluster_cidr;
mod in_cluster;
mod kinds;
mod load_balancer;
mod manifest;
mod nvidia;
mod pod_cidr;
mod selector;
mod source;
mod spider;
mod whereabouts;

use super::input_files::{self, Input, Stdin};
use super::{ConvertArgs, ManifestFormat, UsageError, output};
use crate::config::{ConfigError, Mistakes, Pool, each_document, pool_kind};
use crate::json::Json;
use anyhow::bail;
use source::{Remark, Source, shown};
use std::collections::HashMap;

/// The maximum number of subnets of a pool. Far more could not be read again.
const MOST_SUBNETS: usize = 10_000;

/// Converts everything that the arguments name.
pub(super) fn convert(args: &ConvertArgs) -> anyhow::Result<()> {
    let mut conversion = Conversion {
        format: args.output,
        count: 0,
        objects: Vec::new(),
        names: HashMap::new(),
        lost: 0,
        refused: 0,
        failed: None,
    };
    let mut unreadable = Vec::new();
    let stdin = Stdin::default();
    for path in &args.files {
        input_files::each(path, &stdin, &mut |input| match input {
            Input::File { name, bytes, .. } => conversion.file(&name, &bytes),
            Input::Unreadable(reason) => unreadable.push(reason),
        });
    }
    let (lost, refused) = conversion.end()?;
    if !unreadable.is_empty() {
        return Err(UsageError::new(unreadable.join("; ")).into());
    }
    let counts = [(lost, "setting"), (refused, "object")].into_iter();
    let counts: Vec<String> = counts
        .filter(|(number, _)| 0 < *number)
        .map(|(number, what)| output::count(number, what))
        .collect();
    if !counts.is_empty() {
        bail!("not converted: {}", counts.join(", "));
    }
    Ok(())
}

/// The conversion of one file after the other.
struct Conversion {
    format: ManifestFormat,
    /// The number of pools that are converted.
    count: usize,
    /// The pools for the JSON list.
    objects: Vec<serde_json::Value>,
    /// The names of the pools, and the objects that have them.
    names: HashMap<String, String>,
    /// The number of settings that are lost.
    lost: usize,
    /// The number of objects that are refused.
    refused: usize,
    /// The first failure to print. Nothing is printed after it.
    failed: Option<anyhow::Error>,
}

/// What a list says about the objects in it.
#[derive(Default, Clone, Copy)]
struct Around<'a> {
    kind: Option<&'a str>,
    version: Option<&'a str>,
}

impl Conversion {
    fn file(&mut self, file: &str, bytes: &[u8]) {
        let mut documents = 0_usize;
        let read = each_document(bytes, &mut |document| {
            documents += 1;
            let place = format!("document {documents}");
            self.document(file, &place, &document, Around::default());
        });
        match read {
            Err(error) => self.refuse(file, &error.into()),
            Ok(()) if documents == 0 => {
                let empty = ConfigError::meaning("", "expected a pool, found no object");
                self.refuse(file, &empty.into());
            }
            Ok(()) => {}
        }
    }

    fn document(&mut self, file: &str, place: &str, document: &Json, around: Around<'_>) {
        let own = |key: &str| document.find(key).and_then(Json::as_str);
        let kind = own("kind").or(around.kind);
        let version = own("apiVersion").or(around.version);
        if let (Some(kind), Some(Json::Array(items))) = (kind, document.find("items"))
            && let Some(inner) = kind.strip_suffix("List")
        {
            // The server leaves kind and version out of the items.
            let is_typed = !inner.is_empty();
            let around =
                Around { kind: is_typed.then_some(inner), version: version.filter(|_| is_typed) };
            for (at, item) in items.iter().enumerate() {
                self.document(file, &format!("{place}: items[{at}]"), item, around);
            }
            return;
        }
        let name = document.find("metadata").and_then(|metadata| metadata.find("name"));
        let name = name.and_then(Json::as_str).filter(|name| !name.is_empty());
        let who = match (kind, name) {
            (Some(kind), Some(name)) => format!("{file}: {}/{}", shown(kind), shown(name)),
            (Some(kind), None) => format!("{file}: {place}: {}", shown(kind)),
            (None, _) => format!("{file}: {place}"),
        };
        match self.converted(document, kind, version, name) {
            Err(mistakes) => self.refuse(&who, &mistakes),
            Ok((name, pool, remarks)) => {
                self.print(&pool);
                self.names.insert(name, who.clone());
                remarks.into_iter().for_each(|remark| self.remark(&who, remark));
            }
        }
    }

    /// Returns the name of a pool, the pool, and what is said about it.
    fn converted(
        &self,
        document: &Json,
        kind: Option<&str>,
        api_version: Option<&str>,
        name: Option<&str>,
    ) -> Result<(String, Json, Vec<Remark>), Mistakes> {
        let mistake = |place: &str, reason: String| ConfigError::meaning(place, reason);
        if let Some(path) = document.conflict() {
            return Err(mistake(&path, crate::json::TWO_VALUES.to_owned()).into());
        }
        let kind = kind.ok_or_else(|| mistake("", "expected an object with a kind".to_owned()))?;
        let (group, version) =
            api_version.and_then(|version| version.split_once('/')).unwrap_or_default();
        if kind == pool_kind::KIND && group == pool_kind::GROUP {
            return Err(mistake("", "it is a pool of hereabouts already".to_owned()).into());
        }
        let convert = kinds::of(group, kind).ok_or_else(|| {
            let (kind, version) = (shown(kind), api_version.map(shown));
            let of = version.map_or("without apiVersion".to_owned(), |of| format!("of {of}"));
            mistake("", format!("expected a pool of a known kind, found {kind} {of}"))
        })?;
        let own_name =
            name.ok_or_else(|| mistake("metadata.name", "expected a name, found none".to_owned()))?;
        let name = pool_name(own_name);
        if let Some(first) = self.names.get(&name) {
            let reason =
                format!("expected a name that no other pool has, found {name}, as {first} has it");
            return Err(mistake("metadata.name", reason).into());
        }
        let mut source = Source::new(document, version)?;
        let converted = convert(&mut source)?;
        if MOST_SUBNETS < converted.subnets.len() {
            let found = converted.subnets.len();
            let reason = format!("expected at most {MOST_SUBNETS} subnets, found {found}");
            return Err(mistake("spec", reason).into());
        }
        let pool = converted.object(&name);
        // What is printed can be read.
        Pool::parse(&pool, "").map_err(|mistakes| in_the_result(&mistakes))?;
        if name != own_name {
            source.note(format!("its name becomes {name}"));
        }
        Ok((name, pool, source.into_remarks()))
    }

    fn print(&mut self, pool: &Json) {
        self.count += 1;
        match self.format {
            ManifestFormat::Json => self.objects.push(manifest::value(pool)),
            ManifestFormat::Yaml if self.failed.is_none() => {
                let between = if 1 < self.count { "---\n" } else { "" };
                self.failed = output::print(&format!("{between}{}", manifest::yaml(pool))).err();
            }
            ManifestFormat::Yaml => {}
        }
    }

    fn remark(&mut self, who: &str, remark: Remark) {
        match remark {
            Remark::Lost(path, why) => {
                self.lost += 1;
                output::say(&format!("{who}: {path}: not converted: {why}"));
            }
            Remark::Note(text) => output::say(&format!("{who}: note: {text}")),
        }
    }

    fn refuse(&mut self, who: &str, mistakes: &Mistakes) {
        self.refused += 1;
        for mistake in mistakes.first() {
            let place = match mistake.place.as_str() {
                "" | "file" => String::new(),
                place => format!("{place}: "),
            };
            output::say(&format!("{who}: refused: {place}{}", mistake.reason));
        }
        if 0 < mistakes.more() {
            output::say(&format!(
                "{who}: refused: {} more",
                output::count(mistakes.more(), "mistake")
            ));
        }
    }

    /// Prints the list, and returns how many settings are lost and how many objects are refused.
    fn end(self) -> anyhow::Result<(usize, usize)> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.format == ManifestFormat::Json {
            output::print_json(&serde_json::json!({
                "apiVersion": "v1",
                "kind": "List",
                "items": self.objects,
            }))?;
        }
        Ok((self.lost, self.refused))
    }
}

/// Returns the mistakes of a converted pool, with their places.
fn in_the_result(mistakes: &Mistakes) -> Mistakes {
    let mut found = Mistakes::default();
    for mistake in mistakes.first() {
        let place = format!("in the converted pool: {}", mistake.place.trim_start_matches('.'));
        found.add(ConfigError { place, ..mistake.clone() });
    }
    found
}

/// Returns a name as a DNS subdomain (RFC 1123), as far as its letters allow.
fn pool_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let replaced: String = lower.chars().map(|c| if is_inner(c) { c } else { '-' }).collect();
    let parts = replaced.split('.').map(|part| part.trim_matches('-'));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}
