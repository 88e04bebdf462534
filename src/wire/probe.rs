//! Asks the other hosts of a network whether one of them has an address.

use super::link::{Link, Mac};
use super::packets::{Packets, Wanted};
use super::{arp, solicitation};
use crate::retry::Deadline;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The number of probes for each address. One frame can get lost.
const TIMES: u32 = 2;

/// Sends probes for these addresses out of an interface, and waits for answers. Returns each
/// address that another host has, with the MAC address of that host. Ends early if all have it.
///
/// # Errors
/// The frames cannot be sent, or the answers cannot be read.
pub fn probe(link: &Link, addresses: &[IpAddr], wait: Duration) -> io::Result<Vec<(IpAddr, Mac)>> {
    let (mut v4, mut v6): (Vec<Ipv4Addr>, Vec<Ipv6Addr>) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(*address),
            IpAddr::V6(address) => v6.push(*address),
        }
    }
    let mut sockets = Vec::new();
    if !v4.is_empty() {
        sockets.push(Packets::open(link, Wanted::Arp, &[])?);
    }
    if !v6.is_empty() {
        let mut groups = vec![solicitation::ALL_NODES];
        groups.extend(v6.iter().map(|address| solicitation::solicited_node(*address)));
        groups.dedup();
        sockets.push(Packets::open(link, Wanted::NeighborDiscovery, &groups)?);
    }
    let mut found: Vec<(IpAddr, Mac)> = Vec::new();
    for _ in 0..TIMES {
        for packets in &mut sockets {
            match packets.wanted {
                Wanted::Arp => {
                    v4.iter().try_for_each(|to| packets.send(&arp::probe(link.mac, *to)))?;
                }
                Wanted::NeighborDiscovery => v6
                    .iter()
                    .try_for_each(|to| packets.send(&solicitation::solicitation(link.mac, *to)))?,
            }
        }
        let deadline = Deadline::after(wait / TIMES);
        while found.len() < addresses.len() && !deadline.left().is_zero() {
            for packets in Packets::ready(&mut sockets, deadline.left())? {
                while let Some(frame) = packets.receive()? {
                    note(&frame, link.mac, addresses, &mut found);
                    if deadline.left().is_zero() {
                        break;
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Adds the addresses that a frame shows to be in use.
fn note(frame: &[u8], own: Mac, addresses: &[IpAddr], found: &mut Vec<(IpAddr, Mac)>) {
    for address in addresses {
        let user = match address {
            IpAddr::V4(address) => arp::conflict(frame, own, *address),
            IpAddr::V6(address) => solicitation::conflict(frame, own, *address),
        };
        if let Some(user) = user
            && found.iter().all(|(known, _)| known != address)
        {
            found.push((*address, user));
        }
    }
}
