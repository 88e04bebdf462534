//! The routes of the result: `routes`.

use super::field::Field;
use super::merge::Merged;
use super::{ConfigError, Mistakes};
use crate::addr::{Family, Subnet, parse_address};
use std::collections::HashSet;
use std::net::IpAddr;

/// A route of the result (CNI specification 1.1.0, "Success").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The destination, with host bits cleared.
    pub dst: Subnet,
    /// The next hop.
    pub gw: Option<IpAddr>,
    /// The MTU along the path.
    pub mtu: Option<u32>,
    /// The TCP segment size to announce.
    pub advmss: Option<u32>,
    /// The priority. A lower value is preferred.
    pub priority: Option<u32>,
    /// The routing table. The result keeps a value of 0.
    pub table: Option<u32>,
    /// The scope: 0 is global, 253 is link, 254 is host. The result keeps a value of 0.
    pub scope: Option<u32>,
}

/// Parses the routes of the configuration.
pub(super) fn parse(merged: &Merged<'_>) -> Result<Vec<Route>, Mistakes> {
    of(merged.field("routes"))
}

/// Parses a list of routes, if there is one.
pub(super) fn of(list: Option<Field<'_>>) -> Result<Vec<Route>, Mistakes> {
    let Some(field) = list else {
        return Ok(Vec::new());
    };
    let mut routes = Mistakes::each(field.list()?, |entry| route(&entry))?;
    // The kernel refuses the second of two equal routes.
    let mut seen: HashSet<Route> = HashSet::with_capacity(routes.len());
    routes.retain(|route| seen.insert(route.clone()));
    Ok(routes)
}

fn route(entry: &Field<'_>) -> Result<Route, ConfigError> {
    let dst =
        entry.object()?.find("dst").ok_or_else(|| entry.lacks("dst"))?.parsed(Subnet::parse)?;
    let gw = entry
        .find("gw")
        .map(|field| field.parsed(parse_address).map(|gw| (field, gw)))
        .transpose()?;
    if let Some((field, gw)) = &gw
        && Family::of(*gw) != dst.family()
    {
        return Err(field.wrong(&format!("expected a gateway of the family of {dst}")));
    }
    let number = |key: &str| entry.find(key).map(|field| field.unsigned()).transpose();
    Ok(Route {
        dst,
        gw: gw.map(|(_, gw)| gw),
        mtu: number("mtu")?,
        advmss: number("advmss")?,
        priority: number("priority")?,
        table: number("table")?,
        scope: number("scope")?,
    })
}
