//! The status of the IPSlice custom resource: what its node publishes about the addresses in it. For
//! people and for `list`: it decides nothing about who may have an address. The manifest in
//! deploy/crd is generated from these structs.
//!
//! A holder is one line of text, because a node writes the whole list again after each change: as an
//! object with named fields it would have twice the bytes.
//!
//! ```text
//! 192.168.7.5,fd12::1:705 default/web-1 eth0 blue 2026-11-30T01:02:03Z
//! addresses               pod           interface network since
//! ```
//!
//! In a name, every character that is not a letter, a digit, `_`, `-`, `:` or a dot is `%XX`. A
//! runtime that names no pod has `-` in its place.

use crate::store::percent::{escape, unescape};
use crate::store::slices::{Published, SliceHolder};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::net::IpAddr;
use std::time::SystemTime;

/// The most holders of one slice that are published.
const MOST_HOLDERS: usize = 4096;
/// The most bytes of one of them. An interface with more addresses than fit is only counted.
const MOST_OF_LINE: usize = 8192;
/// The most bytes of all of them. An object of etcd has at most 1.5 MiB.
const MOST_BYTES: usize = 512 * 1024;

/// What the node of the slice publishes. It decides nothing about who may have an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(
    description = "What the node of the slice publishes. It decides nothing about who may have an address.",
    extend("required" = ["published", "count", "held"])
)]
pub struct Status {
    /// When the node wrote this, by its own clock (RFC 3339). It writes only what has changed.
    #[schemars(extend("format" = "date-time"))]
    pub published: String,
    /// How many addresses of the slice are held.
    #[schemars(range(max = 4294967295u32))]
    pub count: u32,
    /// The holders, each as "ADDRESS[,ADDRESS] NAMESPACE/POD INTERFACE NETWORK SINCE".
    #[schemars(length(max = 4096), inner(length(max = 8192)), extend("x-kubernetes-list-type" = "atomic"))]
    pub held: Vec<String>,
}

/// Reads a status. One that cannot be read counts as none: its writer must not hide the slice.
///
/// # Errors
/// The text is no JSON.
pub fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Status>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

impl Status {
    /// Returns the status with these holders.
    pub(crate) fn new(holders: &[SliceHolder], now: SystemTime) -> Self {
        let count: usize = holders.iter().map(|holder| holder.addresses.len()).sum();
        let mut left = MOST_BYTES;
        let lines = holders.iter().map(line).filter(|line| line.len() <= MOST_OF_LINE);
        let lines = lines.take(MOST_HOLDERS);
        let held = lines.take_while(|line| {
            let fits = line.len() <= left;
            left = left.saturating_sub(line.len());
            fits
        });
        Self {
            published: humantime::format_rfc3339_seconds(now).to_string(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            held: held.collect(),
        }
    }

    /// Returns whether another status says the same, whenever it was written.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        (self.count, &self.held) == (other.count, &other.held)
    }

    /// Returns when the status was written.
    #[must_use]
    pub fn at(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(&self.published).ok()
    }

    /// Returns how many addresses are held, and when that was so. `None` without a readable time.
    #[must_use]
    pub fn number(&self) -> Option<Published> {
        Some(Published { at: self.at()?, count: self.count })
    }

    /// Returns the holders. A line that cannot be read is left out.
    pub fn holders(&self) -> impl Iterator<Item = SliceHolder> {
        self.held.iter().filter_map(|line| parse(line))
    }
}

fn line(holder: &SliceHolder) -> String {
    let SliceHolder { addresses, namespace, pod, ifname, network, since } = holder;
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let pod = match (namespace.is_empty(), pod.is_empty()) {
        (_, true) => "-".to_owned(),
        (true, false) => escape(pod),
        (false, false) => format!("{}/{}", escape(namespace), escape(pod)),
    };
    let since = humantime::format_rfc3339_seconds(*since);
    format!("{} {pod} {ifname} {network} {since}", addresses.join(","))
}

/// Returns the holder of a line, or `None` if it is none.
#[must_use]
pub fn parse(line: &str) -> Option<SliceHolder> {
    let mut words = line.split(' ');
    let mut next = || words.next().filter(|word| !word.is_empty());
    let (addresses, pod) = (next()?, next()?);
    let (ifname, network, since) = (next()?, next()?, next()?);
    let addresses = addresses.split(',').map(|text| text.parse().ok());
    // A name that was cut is shown as it is.
    let plain = |name: &str| unescape(name).unwrap_or_else(|| name.to_owned());
    let (namespace, pod) = match pod.split_once('/') {
        _ if pod == "-" => (String::new(), String::new()),
        Some((namespace, pod)) => (plain(namespace), plain(pod)),
        None => (String::new(), plain(pod)),
    };
    Some(SliceHolder {
        addresses: addresses.collect::<Option<Vec<IpAddr>>>()?,
        namespace,
        pod,
        ifname: ifname.to_owned(),
        network: network.to_owned(),
        since: humantime::parse_rfc3339(since).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kube::objects::ip_slice::IpSlice;
    use std::time::{Duration, UNIX_EPOCH};

    fn holder(address: &str, namespace: &str, pod: &str) -> SliceHolder {
        SliceHolder {
            addresses: address.split(',').map(|text| text.parse().unwrap()).collect(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            ifname: "eth0".to_owned(),
            network: "blue".to_owned(),
            since: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn a_line_is_short_and_is_read_as_it_was_written() {
        let first = line(&holder("10.0.0.1,fd00::1", "default", "web-1.a"));
        assert_eq!(first, "10.0.0.1,fd00::1 default/web-1.a eth0 blue 2027-01-15T08:00:00Z");
        for (namespace, pod) in [("default", "web-1"), ("", "web 1/\n%"), ("a b", "c/d"), ("", "")]
        {
            let holder = holder("10.0.0.1", namespace, pod);
            assert_eq!(parse(&line(&holder)), Some(holder));
        }
    }

    #[test]
    fn what_others_have_written_is_no_holder() {
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1  eth0 blue 2027-01-15T08:00:00Z",
            "10.0.0 - eth0 blue 2027-01-15T08:00:00Z",
            "10.0.0.1, - eth0 blue 2027-01-15T08:00:00Z",
            "10.0.0.1 - eth0 blue yesterday",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let status = Status { held: vec!["x".to_owned()], count: 1, ..Status::default() };
        assert_eq!((status.holders().count(), status.number()), (0, None));
    }

    #[test]
    fn a_status_that_cannot_be_read_does_not_hide_its_slice() {
        for status in ["null", "7", r#"{"count":-1}"#, r#"{"held":[1]}"#, r#"{"published":{}}"#] {
            let spec = r#"{"pool":"p","geometry":"g","node":"n","bootID":"b","since":"s"}"#;
            let text = format!(r#"{{"metadata":{{"name":"x"}},"spec":{spec},"status":{status}}}"#);
            let slice: IpSlice = serde_json::from_str(&text).unwrap();
            assert_eq!(slice.status, None, "{status}");
        }
    }

    #[test]
    fn a_large_slice_says_how_many_and_lists_what_an_object_can_hold() {
        let unlisted = holder(&vec!["10.0.0.1"; 1000].join(","), "", "");
        let status = Status::new(&[unlisted], UNIX_EPOCH);
        assert_eq!((status.count, status.held.len()), (1000, 0));
        let long = holder("10.0.0.1", &"n".repeat(170), &"p".repeat(170));
        let status = Status::new(&vec![long; 5000], UNIX_EPOCH);
        assert_eq!(status.count, 5000);
        let bytes: usize = status.held.iter().map(String::len).sum();
        assert!(MOST_BYTES - 400 < bytes && bytes <= MOST_BYTES, "{bytes}");
        let status = Status::new(&vec![holder("10.0.0.1", "", ""); 5000], UNIX_EPOCH);
        assert_eq!((status.count, status.held.len()), (5000, MOST_HOLDERS));
        let later = Status { published: "2027-01-15T08:00:00Z".to_owned(), ..status.clone() };
        assert!(status.says_the_same(&later));
    }
}
