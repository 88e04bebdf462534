//! The way from a test's network namespace to the API server, which listens on the loopback address
//! of this one: at the same address and port there, so that a kubeconfig is right in both.

use crate::support::sandbox::other_store;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{Shutdown, shutdown};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

/// Forwards connections for as long as it lives.
pub(super) struct Forward(TcpListener);

impl Forward {
    /// Lets the namespace of a process reach the API server of the tests, if they have one.
    pub(super) fn to_the_store(process: &str) -> Option<Self> {
        let server = other_store()?.server();
        let server: SocketAddr = server.rsplit_once('/')?.1.parse().unwrap();
        let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
        // A socket belongs to the namespace in which it was made, a thread may be in any.
        let listen = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind(server).unwrap()
        };
        let listener = thread::spawn(listen).join().unwrap();
        let accepting = listener.try_clone().unwrap();
        thread::spawn(move || {
            for stream in accepting.incoming().map_while(Result::ok) {
                let upstream = TcpStream::connect(server).unwrap();
                copy(stream.try_clone().unwrap(), upstream.try_clone().unwrap());
                copy(upstream, stream);
            }
        });
        Some(Self(listener))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // The other thread waits in accept(2), and has a descriptor of its own.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

/// Copies what one end sends to the other, in a thread, until it ends.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}
