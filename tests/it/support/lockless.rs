//! Processes for which some system calls only report success. A filter in the kernel answers, so a
//! call costs no more than without it. Under strace, each of them would be stopped twice.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// flock(2): every caller has the lock at the same time.
pub(crate) const FLOCK: i64 = nix::libc::SYS_flock;

/// Runs `action`, and everything that it starts, on a thread for which these system calls return 0
/// and do nothing.
pub(crate) fn only_succeeds<T: Send>(calls: &[i64], action: impl FnOnce() -> T + Send) -> T {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(0), here).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    std::thread::scope(|scope| {
        // The filter stays with its thread, and with its children.
        let hindered = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            action()
        });
        hindered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The filter affects a process that is started under it, and no other.
#[test]
fn a_lock_that_only_succeeds_is_taken_twice() {
    let file =
        std::env::temp_dir().join(format!("hereabouts-test-lockless-{}", std::process::id()));
    let held = std::fs::File::create(&file).unwrap();
    held.lock().unwrap();
    let lock = || {
        std::process::Command::new("flock")
            .args(["--nonblock", file.to_str().unwrap(), "true"])
            .status()
            .unwrap()
            .success()
    };
    assert!(!lock(), "the lock does not lock");
    assert!(only_succeeds(&[FLOCK], lock), "the filter does not bite");
    assert!(!lock(), "the filter stays");
    std::fs::remove_file(&file).unwrap();
}
