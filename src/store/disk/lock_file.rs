//! Locks on files that may have to be created.

use super::{Inode, Locked, Patience, lock};
use crate::retry::Deadline;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// How often a file is looked for that is said to exist and cannot be found.
const MOST_LOOKS: u32 = 100;

/// Locks the file at a name. If the file was removed during the wait, no other call would find the
/// locked file, so the lock is taken again. `open` opens the file with the flag that it is given,
/// which creates the file or is empty; `at_name` returns the file that is at the name now.
pub(super) fn take(
    open: impl Fn(OFlag) -> io::Result<File>,
    at_name: impl Fn() -> io::Result<Inode>,
    patience: Patience,
) -> io::Result<Locked> {
    let deadline = match patience {
        Patience::Queue(limit) => Some(Deadline::after(limit)),
        Patience::Try => None,
    };
    loop {
        let patience = deadline.map_or(Patience::Try, |deadline| Patience::Queue(deadline.left()));
        let Some(held) = lock::take(open_or_create(&open)?, patience)? else {
            return Ok(Locked::Busy);
        };
        let ours = Inode::from(&fstat(held.as_fd())?);
        match at_name() {
            Ok(inode) if inode == ours => return Ok(Locked::Held(Box::new(held))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a file, and creates it if there is none. If two machines create a file at the same moment,
/// a filesystem may report EEXIST to one of them (GlusterFS 10.3), although open(2) allows this
/// error only with `O_EXCL`. The file is there then, unless it was removed again.
fn open_or_create(open: impl Fn(OFlag) -> io::Result<File>) -> io::Result<File> {
    for _ in 0..MOST_LOOKS {
        match open(OFlag::O_CREAT) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened,
        }
        match open(OFlag::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    open(OFlag::O_CREAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::cell::{Cell, RefCell};

    /// Opens a file as a filesystem would that gives these errors first.
    fn opened_after(errors: &[Errno]) -> (io::Result<File>, Vec<OFlag>) {
        let (next, flags) = (Cell::new(0), RefCell::new(Vec::new()));
        let opened = open_or_create(|flag| {
            flags.borrow_mut().push(flag);
            let error = errors.get(next.replace(next.get() + 1));
            error.map_or_else(|| File::open("/dev/null"), |error| Err((*error).into()))
        });
        (opened, flags.into_inner())
    }

    #[test]
    fn a_file_that_another_machine_creates_is_opened() {
        let (opened, flags) = opened_after(&[Errno::EEXIST]);
        opened.unwrap();
        assert_eq!(flags, [OFlag::O_CREAT, OFlag::empty()]);
    }

    #[test]
    fn a_file_that_is_removed_meanwhile_is_created() {
        let (opened, flags) = opened_after(&[Errno::EEXIST, Errno::ENOENT]);
        opened.unwrap();
        assert_eq!(flags, [OFlag::O_CREAT, OFlag::empty(), OFlag::O_CREAT]);
    }

    #[test]
    fn other_errors_are_reported_at_once() {
        for errors in [&[Errno::EACCES][..], &[Errno::EEXIST, Errno::EACCES]] {
            let (opened, flags) = opened_after(errors);
            assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(flags.len(), errors.len());
        }
    }

    #[test]
    fn a_name_that_only_seems_to_exist_is_an_error() {
        let errors = [Errno::EEXIST, Errno::ENOENT].repeat(1000);
        let (opened, flags) = opened_after(&errors);
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(flags.len(), 2 * MOST_LOOKS as usize + 1);
    }
}
