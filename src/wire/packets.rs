//! Frames of one kind on one interface: a packet socket (packet(7)).

use super::link::{Link, Mac};
use super::socket;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// The room for a frame. What this module looks for is shorter.
const LONGEST: usize = 256;

/// The frames that a socket receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// ARP packets.
    Arp,
    /// ICMPv6 neighbor solicitations and advertisements.
    NeighborDiscovery,
}

/// A packet socket on one interface.
pub(super) struct Packets {
    pub(super) wanted: Wanted,
    socket: File,
}

impl Packets {
    /// Opens a socket that receives these frames of other hosts, including those that are sent to
    /// one of the groups. The kernel drops all others: a wire carries more than a process can read.
    ///
    /// # Errors
    /// This process lacks the right (`CAP_NET_RAW`), or the interface is gone.
    pub(super) fn open(link: &Link, wanted: Wanted, groups: &[Mac]) -> io::Result<Self> {
        // Without a protocol it receives nothing until it has its filter.
        let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        socket::filter(&socket, &program(wanted))?;
        for group in groups {
            socket::join(&socket, link.index, group.0)?;
        }
        let protocol = match wanted {
            Wanted::Arp => libc::ETH_P_ARP,
            Wanted::NeighborDiscovery => libc::ETH_P_IPV6,
        };
        socket::bind(&socket, link.index, u16::try_from(protocol).unwrap_or_default())?;
        Ok(Self { wanted, socket })
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.socket.write_all(frame)
    }

    /// Returns the next frame that is there, cut to [`LONGEST`].
    pub(super) fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; LONGEST];
        match self.socket.read(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until one of the sockets has a frame, and returns those that have.
    pub(super) fn ready(sockets: &mut [Self], wait: Duration) -> io::Result<Vec<&mut Self>> {
        let mut asked: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|packets| PollFd::new(packets.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // Rounded up, so that the last millisecond is not spent in a loop.
        let millis = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut asked, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has: Vec<bool> = asked.iter().map(|it| it.any().unwrap_or(false)).collect();
        Ok(sockets.iter_mut().zip(has).filter_map(|(it, has)| has.then_some(it)).collect())
    }
}

/// Returns the filter for the kernel (classic BPF): frames that were sent to this host or to a
/// group, and of IPv6 only neighbor discovery. A frame of another VLAN counts as sent to another
/// host.
fn program(wanted: Wanted) -> Vec<libc::sock_filter> {
    const LOAD_BYTE: u16 = 0x30;
    const IS_EQUAL: u16 = 0x15;
    const IS_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    /// Where the kernel shows the kind of receiver: 0 this host, 1 all, 2 a group, 3 another.
    const RECEIVER: u32 = 0xffff_f004;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let (accept, drop) = (step(RETURN, 0, 0, 0xffff), step(RETURN, 0, 0, 0));
    match wanted {
        Wanted::Arp => {
            vec![step(LOAD_BYTE, 0, 0, RECEIVER), step(IS_GREATER, 1, 0, 2), accept, drop]
        }
        Wanted::NeighborDiscovery => vec![
            step(LOAD_BYTE, 0, 0, RECEIVER),
            step(IS_GREATER, 6, 0, 2),
            step(LOAD_BYTE, 0, 0, 20), // the kind of the next header
            step(IS_EQUAL, 0, 4, 58),
            step(LOAD_BYTE, 0, 0, 54), // the kind of the message
            step(IS_EQUAL, 1, 0, 135),
            step(IS_EQUAL, 0, 1, 136),
            accept,
            drop,
        ],
    }
}
