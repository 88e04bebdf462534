//! Neighbor solicitations for duplicate address detection (RFC 4862, section 5.4): asks the hosts
//! of a network whether one of them has an IPv6 address, without claiming it.

use super::Mac;
use std::net::Ipv6Addr;

/// The size of an Ethernet header.
const ETHERNET: usize = 14;
/// The size of an IPv6 header.
const IPV6: usize = 40;
/// The size of a solicitation or advertisement without options.
const MESSAGE: usize = 24;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The option with the MAC address that belongs to the target.
const TARGET_MAC: u8 = 2;

/// The MAC address of the group of all hosts, which an advertisement to a solicitation from the
/// unspecified address is sent to.
pub(super) const ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Returns the MAC address of the group that the holder of an address listens to.
pub(super) fn solicited_node(address: Ipv6Addr) -> Mac {
    let [.., a, b, c] = address.octets();
    Mac([0x33, 0x33, 0xff, a, b, c])
}

/// Returns the frame of a solicitation from the unspecified address, without options.
pub(super) fn solicitation(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let group: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(address.octets());
    let sum = checksum(&[0; 16], &group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = solicited_node(address).0.to_vec();
    frame.extend(from.0);
    frame.extend([0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0, 0, 24, ICMPV6, 255]);
    frame.extend([0; 16]);
    frame.extend(group);
    frame.extend(message);
    frame
}

/// Returns the MAC address of another host that has `address`, or is about to take it, if this
/// frame shows one: an advertisement of this address, or a solicitation for duplicate address
/// detection. The hop limit of 255 shows that no router has forwarded it.
pub(super) fn conflict(frame: &[u8], own: Mac, address: Ipv6Addr) -> Option<Mac> {
    let link_sender = Mac(*frame.get(6..)?.first_chunk()?);
    let header: &[u8; IPV6] = frame.get(ETHERNET..)?.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = frame.get(ETHERNET + IPV6..)?.get(..length).filter(|it| MESSAGE <= it.len())?;
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != 255 || message[1] != 0 {
        return None;
    }
    let target = Ipv6Addr::from(*message[8..].first_chunk::<16>()?);
    if link_sender == own || target != address {
        return None;
    }
    match message[0] {
        SOLICITATION if header[8..24] == [0; 16] => Some(link_sender),
        ADVERTISEMENT => Some(target_mac(&message[MESSAGE..]).unwrap_or(link_sender)),
        _ => None,
    }
}

/// Returns the MAC address that an advertisement names.
fn target_mac(mut options: &[u8]) -> Option<Mac> {
    loop {
        let (kind, eights) = (*options.first()?, usize::from(*options.get(1)?));
        if kind == TARGET_MAC && eights == 1 {
            return Some(Mac(*options.get(2..)?.first_chunk()?));
        }
        // A length of 0 is invalid, and would lead nowhere.
        options = options.get(eights.max(1) * 8..)?;
    }
}

/// Returns the checksum of an ICMPv6 message (RFC 4443, section 2.3).
fn checksum(source: &[u8; 16], destination: &[u8; 16], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    let parts: [&[u8]; 5] = [source, destination, &length, &[0, 0, 0, ICMPV6], message];
    let mut sum = 0u32;
    for pair in parts.into_iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn address() -> Ipv6Addr {
        "fd00::1:205".parse().unwrap()
    }

    /// The bytes are those of RFC 4861, typed by hand. The sum of all words, with the checksum, is
    /// ffff.
    #[test]
    fn a_solicitation_has_the_bytes_of_the_specification() {
        let frame = solicitation(OWN, address());
        let expected = [
            0x33, 0x33, 0xff, 0x01, 0x02, 0x05, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
            0x60, 0, 0, 0, 0, 24, 58, 255, // IPv6
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // from ::
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x01, 0x02, 0x05, // to the group
            135, 0,
        ];
        assert_eq!(frame[..expected.len()], expected);
        assert_eq!(frame.len(), 14 + 40 + 24);
        assert_eq!(frame[62..], address().octets());
        let group: [u8; 16] = frame[38..54].try_into().unwrap();
        assert_eq!(checksum(&[0; 16], &group, &frame[54..]), 0);
    }

    #[test]
    fn who_uses_the_address_is_seen_and_nothing_else() {
        let mine = solicitation(OWN, address());
        let other = solicitation(OTHER, address());
        let mut forwarded = other.clone();
        forwarded[21] = 254;
        let mut question = other.clone();
        question[22..38].copy_from_slice(&"fd00::9".parse::<Ipv6Addr>().unwrap().octets());
        let mut advertised = question.clone();
        advertised[54] = 136;
        let mut named = advertised.clone();
        named[19] = 40;
        named.extend([1, 1, 9, 9, 9, 9, 9, 9, 2, 1, 2, 0, 0, 0, 0, 3]);
        let mut endless = named.clone();
        endless[78..80].copy_from_slice(&[1, 0]);
        let another = solicitation(OTHER, "fd00::2:205".parse().unwrap());
        for (what, frame, expected) in [
            ("the same test of another host", other, Some(OTHER)),
            ("an advertisement", advertised, Some(OTHER)),
            ("an advertisement that names its MAC address", named, Some(Mac([2, 0, 0, 0, 0, 3]))),
            ("an option without a length", endless, Some(Mac([2, 0, 0, 0, 0, 3]))),
            ("this solicitation, reflected", mine, None),
            ("a host that looks for the address", question, None),
            ("a test of another address", another, None),
            ("a forwarded packet", forwarded, None),
        ] {
            assert_eq!(conflict(&frame, OWN, address()), expected, "{what}");
            for length in 0..frame.len() {
                // A frame that is cut short has another length than its header says.
                assert_eq!(conflict(&frame[..length], OWN, address()), None, "{what}: {length}");
            }
        }
    }
}
