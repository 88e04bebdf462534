//! ARP probes (RFC 5227, section 2.1.1): asks the hosts of a network whether one of them has an
//! IPv4 address, without claiming it.

use super::Mac;
use std::net::Ipv4Addr;

/// The size of an Ethernet header.
const ETHERNET: usize = 14;
/// The size of an ARP packet for IPv4 on Ethernet.
const PACKET: usize = 28;
/// Hardware type Ethernet, protocol IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;

/// Returns the frame of a probe. The sender's IPv4 address is 0.0.0.0, so that no host learns a
/// wrong MAC address from it.
pub(super) fn probe(from: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(from.0);
    frame.extend([0x08, 0x06]);
    frame.extend(KIND);
    frame.extend([0, REQUEST]);
    frame.extend(from.0);
    frame.extend([0; 4]);
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// Returns the MAC address of another host that has `address`, or is about to take it, if this
/// frame shows one: an ARP packet from this address, or a probe for it.
pub(super) fn conflict(frame: &[u8], own: Mac, address: Ipv4Addr) -> Option<Mac> {
    let packet: &[u8; PACKET] = frame.get(ETHERNET..)?.first_chunk()?;
    if packet[..6] != KIND || packet[6] != 0 || !matches!(packet[7], 1 | 2) {
        return None;
    }
    let sender = Mac(*packet[8..].first_chunk()?);
    let sender_address = Ipv4Addr::from(*packet[14..].first_chunk::<4>()?);
    let target_address = Ipv4Addr::from(*packet[24..].first_chunk::<4>()?);
    let is_probe = packet[7] == REQUEST && sender_address.is_unspecified();
    let concerns = sender_address == address || is_probe && target_address == address;
    (concerns && sender != own).then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    /// The bytes are those of RFC 826 and RFC 5227, typed by hand.
    #[test]
    fn a_probe_has_the_bytes_of_the_specification() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06, // Ethernet
            0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x01, // request
            2, 0, 0, 0, 0, 1, 0, 0, 0, 0, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 0, 5, // target
        ];
        assert_eq!(probe(OWN, ADDRESS), expected);
    }

    #[test]
    fn who_uses_the_address_is_seen_and_nothing_else() {
        let frame = |operation: u8, sender: Mac, sender_address: [u8; 4], target: [u8; 4]| {
            let mut frame = probe(sender, Ipv4Addr::from(target));
            frame[21] = operation;
            frame[28..32].copy_from_slice(&sender_address);
            frame
        };
        let (has, none, another) = ([10, 0, 0, 5], [0; 4], [10, 0, 0, 6]);
        for (what, frame, expected) in [
            ("a reply", frame(2, OTHER, has, none), Some(OTHER)),
            ("an announcement", frame(1, OTHER, has, has), Some(OTHER)),
            ("a question by the holder", frame(1, OTHER, has, another), Some(OTHER)),
            ("the probe of another host", frame(1, OTHER, none, has), Some(OTHER)),
            ("this probe, reflected", frame(1, OWN, none, has), None),
            ("a question for the address", frame(1, OTHER, another, has), None),
            ("a reply to the holder", frame(2, OTHER, another, has), None),
            ("an unknown operation", frame(3, OTHER, has, has), None),
        ] {
            assert_eq!(conflict(&frame, OWN, ADDRESS), expected, "{what}");
            for length in 0..42 {
                assert_eq!(conflict(&frame[..length], OWN, ADDRESS), None, "{what}: {length}");
            }
        }
    }
}
