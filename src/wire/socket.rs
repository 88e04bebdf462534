//! A socket of a family that the standard library does not know. It never blocks: a reader
//! waits with poll(2) for as long as it may.

use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Opens a socket. As a file it is written and read one message at a time.
///
/// # Errors
/// The kernel does not have the family, or this process lacks the right.
pub(super) fn open(family: i32, kind: i32, protocol: i32) -> io::Result<File> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    #[allow(unsafe_code, reason = "a system call with three numbers, which reads no memory")]
    // SAFETY: see the reason.
    let descriptor = unsafe { libc::socket(family, kind, protocol) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(
        unsafe_code,
        reason = "socket returns a new descriptor as a number; nothing else owns it"
    )]
    // SAFETY: see the reason.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Limits the socket to one interface and to frames with this Ethernet protocol.
///
/// # Errors
/// The interface does not exist or is down.
pub(super) fn bind(socket: &File, interface: i32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
    #[allow(unsafe_code, reason = "the kernel reads one address of the given length")]
    // SAFETY: see the reason.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    outcome(done)
}

/// Lets the kernel drop each frame that a program does not accept.
///
/// # Errors
/// The kernel refuses the program.
pub(super) fn filter(socket: &File, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).unwrap_or_default();
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Receives what is sent to a group of hosts, for as long as the socket is open.
///
/// # Errors
/// The interface does not exist.
pub(super) fn join(socket: &File, interface: i32, group: [u8; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = group;
    let request = libc::packet_mreq {
        mr_ifindex: interface,
        mr_type: u16::try_from(libc::PACKET_MR_MULTICAST).unwrap_or_default(),
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

fn set<T>(socket: &File, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    #[allow(unsafe_code, reason = "the kernel reads one value of the given length")]
    // SAFETY: see the reason. A filter's program is read during the call, and lives longer.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const *value).cast(), length)
    };
    outcome(done)
}

fn outcome(done: i32) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
