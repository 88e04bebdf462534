//! A FUSE filesystem of the tests, with a few files in its root: of any type that a test names, and
//! silent like a server that hangs.

use super::overlay::Overlay;
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
pub(crate) const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
pub(crate) const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const ACCESS: u32 = 34;
/// Requests that expect no answer: FORGET, INTERRUPT, DESTROY, BATCH_FORGET.
const UNANSWERED: &[u32] = &[2, 36, 38, 42];
const ROOT: u64 = 1;

/// Its content and its behavior.
#[derive(Clone, Default)]
pub(crate) struct Fuse {
    /// Names and contents.
    pub(crate) files: Vec<(&'static str, String)>,
    /// Requests that are never answered.
    pub(crate) silent: Vec<u32>,
}

impl Fuse {
    /// Mounts it at a sandbox's store, with this type (`fuse.` and a name), for as long as the
    /// returned value lives. Returns `None` if this machine does not allow it.
    pub(crate) fn mount(self, kind: &str) -> Option<Overlay> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let handed = device.try_clone().ok()?;
        let script = format!(
            r#"mkdir -p "$0/store" && mount -i -t {kind} -o fd=0,rootmode=40000,user_id=0,group_id=0 none "$0/store" && \
               echo ready && exec sleep 600"#
        );
        let mounted = Overlay::by(&script, Stdio::from(handed))?;
        let holder = mounted.holder();
        // The device answers nothing before it is mounted.
        std::thread::spawn(move || self.serve(&device, &holder));
        Some(mounted)
    }

    /// Answers until the holder of the mount ends. Then a process that waits for an answer gets an
    /// error, because the device is closed.
    fn serve(&self, mut device: &File, holder: &Path) {
        let mut request = vec![0; 1 << 20];
        while holder.exists() {
            let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, 100u16) == Ok(0) {
                continue;
            }
            let Ok(length) = device.read(&mut request) else { return };
            let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
            let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
            let (opcode, unique, node) = (word(4), &request[8..16], long(16));
            if UNANSWERED.contains(&opcode) || self.silent.contains(&opcode) {
                continue;
            }
            let (error, body) = match self.answer(opcode, node, &request[40..length]) {
                Ok(body) => (0, body),
                Err(errno) => (-errno, Vec::new()),
            };
            let size = u32::try_from(16 + body.len()).unwrap();
            let answer =
                [&size.to_ne_bytes()[..], &i32::to_ne_bytes(error), unique, &body].concat();
            let _ = device.write(&answer);
        }
    }

    fn answer(&self, opcode: u32, node: u64, input: &[u8]) -> Result<Vec<u8>, i32> {
        let file = |node: u64| self.files.get(usize::try_from(node - 2).unwrap_or(usize::MAX));
        match opcode {
            // Version 7.31, no flags, writes of 4096 bytes.
            INIT => Ok(words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            GETATTR => Ok([words(&[0; 4]), self.attributes(node)].concat()),
            LOOKUP => {
                let name = input.split(|byte| *byte == 0).next().unwrap_or_default();
                let at = self
                    .files
                    .iter()
                    .position(|(known, _)| known.as_bytes() == name)
                    .ok_or(nix::libc::ENOENT)?;
                let node = at as u64 + 2;
                Ok([longs(&[node, 0, 0, 0, 0]), self.attributes(node)].concat())
            }
            OPEN | OPENDIR => Ok(words(&[0; 4])),
            READ => {
                let from =
                    usize::try_from(u64::from_ne_bytes(input[8..16].try_into().unwrap())).unwrap();
                Ok(file(node)
                    .map(|(_, text)| text.as_bytes()[from.min(text.len())..].to_vec())
                    .unwrap_or_default())
            }
            STATFS => Ok([
                longs(&[1000, 1000, 1000, 1000, 1000]),
                words(&[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0]),
            ]
            .concat()),
            READDIR | RELEASE | RELEASEDIR | FLUSH | ACCESS => Ok(Vec::new()),
            _ => Err(nix::libc::ENOSYS),
        }
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let text = usize::try_from(node)
            .ok()
            .and_then(|node| self.files.get(node.wrapping_sub(2)))
            .map_or("", |(_, text)| text);
        let mode = if node == ROOT { 0o040_755 } else { 0o100_600 };
        [
            longs(&[node, text.len() as u64, 0, 0, 0, 0]),
            words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]),
        ]
        .concat()
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
