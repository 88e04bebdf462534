//! Starts the plugin or the command line, depending on `CNI_COMMAND`, and passes it the resources
//! of the process: environment, standard streams, the parent's process ID, panic report.
//!
//! The C library calls `main` directly, without Rust's runtime. That runtime prepares a report of
//! stack overflows: a second stack, signal handlers, and a read of /proc/self/maps. This took 80 us
//! of each call, a sixteenth of an ADD. `set_signal_actions` and `fill_streams` do the rest of what
//! it does.

#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

use hereabouts::environment::Environment;
use hereabouts::{cli, cni, config, plugin};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Looks up a variable. This is the only access to the environment of the process.
#[allow(clippy::disallowed_methods, reason = "main passes the environment to all other modules")]
fn lookup(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The entry point that the C library calls. Only glibc provides the arguments of the command line
/// to a program that Rust's runtime did not start.
#[cfg(all(target_env = "gnu", not(test)))]
#[allow(unsafe_code, reason = "the C library defines this name, and no other item has it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    end()
}

#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() {
    end()
}

#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "it flushes the standard streams, and everything else is closed"
)]
fn end() -> ! {
    std::process::exit(run())
}

/// Runs the process and returns its exit status.
#[allow(clippy::disallowed_methods, reason = "main passes the environment to all other modules")]
fn run() -> i32 {
    let parent = nix::unistd::getppid();
    set_signal_actions();
    fill_streams();
    let environment = Environment::read(&lookup);
    if environment.call.command.is_none() {
        return cli::run(&environment, std::env::args_os());
    }
    std::panic::set_hook(Box::new(report_panic));
    let orphaned = || nix::unistd::getppid() != parent;
    let surroundings = Rc::new(plugin::ThisMachine::new(end_when_late));
    let machine = Rc::clone(&surroundings);
    let report = plugin::call_summary::Report::default();
    let ipam = plugin::Ipam {
        environment: &environment,
        log: &start_log,
        report,
        orphaned: &orphaned,
        surroundings,
    };
    let ports = cni::Ports {
        variables: &environment.call,
        stdin: &mut Stdin(None),
        stdin_ready: &is_stdin_ready,
        deliver: &answer,
        undeliverable: &undeliverable,
        orphaned: &orphaned,
    };
    let outcome = cni::dispatch(&ipam, ports);
    ipam.report.write(&outcome);
    match outcome {
        cni::Outcome::Done => {
            machine.settle_debts(&end_within);
            0
        }
        cni::Outcome::Failed(error) => {
            plugin::log::complain(&error.to_string());
            1
        }
    }
}

/// Sets how the process handles signals, because the parent's setting is inherited. A write beyond
/// the limit on file sizes, or to a reader that has exited, must fail and not end the process
/// without a message. The end of a child must be reported to the code that waits for it.
fn set_signal_actions() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let (ignored, default) = (SigHandler::SigIgn, SigHandler::SigDfl);
    for (signal, handler) in
        [(Signal::SIGXFSZ, ignored), (Signal::SIGPIPE, ignored), (Signal::SIGCHLD, default)]
    {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        #[allow(unsafe_code, reason = "it sets an action of the kernel, not a signal handler")]
        // SAFETY: neither setting runs any code, and there is no other thread yet.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Opens /dev/null for each standard stream that is closed. Otherwise the next file that is opened
/// would get the stream's number, and output would go into that file.
fn fill_streams() {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
        .map(|stream| PollFd::new(stream, PollFlags::empty()));
    if poll(&mut streams, PollTimeout::ZERO).is_ok_and(|count| count == 0) {
        return;
    }
    let closed = streams
        .iter()
        .filter(|stream| stream.revents().is_some_and(|seen| seen.contains(PollFlags::POLLNVAL)));
    for _ in closed {
        // `open` returns the lowest free number.
        match nix::fcntl::open(
            "/dev/null",
            nix::fcntl::OFlag::O_RDWR,
            nix::sys::stat::Mode::empty(),
        ) {
            Ok(null) => std::mem::forget(null),
            Err(_) => std::process::abort(),
        }
    }
}

/// Ends the process with success after `limit`, whatever it is doing: the caller has its answer and
/// waits only for the exit. An interruption at this point is as safe as a kill. Returns `false` if
/// no thread could be started, because the number of processes is limited.
#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the answer is delivered, and no system call may delay the caller"
)]
fn end_within(limit: Duration) -> bool {
    let end = move || {
        std::thread::sleep(limit);
        std::process::exit(0);
    };
    std::thread::Builder::new().spawn(end).is_ok()
}

/// Whether an answer was begun, by the call itself or by the thread that ends a late call.
static IS_ANSWERED: AtomicBool = AtomicBool::new(false);

/// Delivers the answer of the call, unless [`end_late`] was first. In that case it never returns:
/// the process ends while it waits.
fn answer(bytes: &[u8]) -> io::Result<()> {
    // The call may write twice: a result that could not be delivered, and then the error.
    static BY_CALL: AtomicBool = AtomicBool::new(false);
    if !BY_CALL.swap(true, Ordering::SeqCst) && IS_ANSWERED.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    deliver(bytes)
}

/// Ensures that a call is answered in time even if it uses a filesystem whose server may never
/// answer.
///
/// A process in such a system call cannot even be killed, because the server already has the
/// request. Therefore another process tries the filesystem first. After that, a thread watches this
/// process. If the server stops answering later, the answer is still in time, and the process ends
/// as soon as the server answers.
#[allow(
    clippy::disallowed_methods,
    reason = "the call may be in a system call that never ends, and must not be waited for"
)]
fn end_when_late(late: plugin::Late) {
    if !answers(&late) {
        end_late(&late);
    }
    make_room_for_descriptors();
    let watch = move || {
        // The signals of the lock timer must interrupt the call, not this thread.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        std::thread::sleep(late.after());
        end_late(&late);
    };
    if let Err(error) = std::thread::Builder::new().spawn(watch) {
        plugin::log::complain(&format!(
            "cannot start the thread that ends this call in time: {error}"
        ));
    }
}

/// Enlarges the table of descriptors before a thread starts. The locks use descriptors from 900 on.
/// If threads share the table, the kernel waits for all processors before it enlarges it, which
/// takes 10 ms.
fn make_room_for_descriptors() {
    const HIGH: i32 = 900;
    if let Ok(high) = nix::fcntl::fcntl(io::stdout(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(HIGH)) {
        let _ = nix::unistd::close(high);
    }
}

/// Answers instead of the call, unless the call has answered, and ends the process.
#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the call may be in a system call that never ends, and must not be waited for"
)]
fn end_late(late: &plugin::Late) {
    if !IS_ANSWERED.swap(true, Ordering::SeqCst) {
        let (error, document) = late.answer();
        let _ = deliver(&document);
        plugin::log::complain(&error.to_string());
        std::process::exit(1);
    }
}

/// Returns whether a separate process that examines the store finishes in time. A process that does
/// not finish holds nothing that the caller waits for, and ends when its system call returns. If no
/// process can be started, the call continues: it is no worse off than without this check.
fn answers(late: &plugin::Late) -> bool {
    use nix::unistd::{ForkResult, fork};
    let Ok((back, end)) = io::pipe() else { return true };
    #[allow(
        unsafe_code,
        reason = "only fork creates a process that shares nothing with its parent"
    )]
    // SAFETY: there is no other thread yet, so the child may do everything that this process may.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => read_store_and_end(late, back),
        Ok(ForkResult::Parent { child }) => {
            drop(end);
            let limit = PollTimeout::try_from(late.after()).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(back.as_fd(), PollFlags::POLLIN)], limit) {
                Ok(0) => {
                    // The child ends when the server answers, and does nothing more.
                    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                    false
                }
                Ok(_) => {
                    let _ = nix::sys::wait::waitpid(child, None);
                    true
                }
                Err(_) => true,
            }
        }
        Err(_) => true,
    }
}

/// Runs the child: closes the caller's streams immediately, and its end of the pipe by exiting.
#[allow(unsafe_code, reason = "it closes streams by number, and the child runs no exit handlers")]
fn read_store_and_end(late: &plugin::Late, back: io::PipeReader) -> ! {
    drop(back);
    for stream in 0..3 {
        // SAFETY: no code reads from the stream or writes to it after this.
        let _ = unsafe { nix::libc::close(stream) };
    }
    late.read_store();
    // SAFETY: ends only this process.
    unsafe { nix::libc::_exit(0) }
}

/// Reads stdin from a caller that may have made it non-blocking, left it open and silent, or that
/// writes only a byte from time to time. All reads together end within a minute.
struct Stdin(Option<Instant>);

/// The time in which a caller must have written its configuration.
const WRITING: Duration = Duration::from_secs(60);

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[allow(clippy::disallowed_methods, reason = "main may not use the store's clock")]
        let begun = *self.0.get_or_insert_with(Instant::now);
        let stdin = io::stdin();
        loop {
            let left = WRITING.saturating_sub(begun.elapsed()).as_millis();
            match poll(
                &mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)],
                u16::try_from(left).unwrap_or(u16::MAX),
            ) {
                Ok(_) if left == 0 => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no end of input within 60 s",
                    ));
                }
                // A read would block now.
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) | Err(_) => {}
            }
            match nix::unistd::read(stdin.as_fd(), buffer) {
                // Another reader took the bytes.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

/// The time that a caller may take to read. Until then, an ADD makes other calls of its attachment
/// wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pipe that reports space accepts this many bytes at once, so no write blocks.
const AT_ONCE: usize = 4096;

/// Writes to the descriptor directly. A buffer would hide the error of the last write.
#[allow(clippy::disallowed_methods, reason = "main may not use the store's clock")]
fn deliver(mut bytes: &[u8]) -> io::Result<()> {
    let (stdout, begun) = (io::stdout(), Instant::now());
    while !bytes.is_empty() {
        let left = PATIENCE.saturating_sub(begun.elapsed()).as_millis();
        match poll(
            &mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)],
            u16::try_from(left).unwrap_or(u16::MAX),
        ) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the reader took nothing for 10 s",
                ));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        match nix::unistd::write(stdout.as_fd(), &bytes[..bytes.len().min(AT_ONCE)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            // Another writer used the space.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns an error text if stdout is the null device, where no caller receives anything. The null
/// device also replaces a stdout that was closed before the start, see `fill_streams`.
fn undeliverable() -> Option<String> {
    let null = nix::sys::stat::stat("/dev/null").ok()?;
    let stdout = nix::sys::stat::fstat(io::stdout().as_fd()).ok()?;
    let device =
        nix::sys::stat::SFlag::from_bits_truncate(stdout.st_mode) & nix::sys::stat::SFlag::S_IFMT;
    (device == nix::sys::stat::SFlag::S_IFCHR && stdout.st_rdev == null.st_rdev)
        .then(|| "stdout: expected a reader for the result, found a closed stream or the null device; nothing was allocated".to_owned())
}

/// Returns whether a read from stdin would return immediately. VERSION must not wait for a stdin
/// that was left open. A caller that does write gets a moment for it.
fn is_stdin_ready() -> bool {
    let stdin = io::stdin();
    let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::from(100u16)).is_ok_and(|count| 0 < count)
}

/// Logs to the configured file. A verb does not fail if its log cannot be written.
fn start_log(settings: &config::LogSettings, subject: &dyn Fn() -> plugin::log::Subject) {
    let Some(path) = &settings.file else {
        return;
    };
    if let Err(error) = plugin::log::start(path, settings, &subject()) {
        plugin::log::complain(&format!("log_file: cannot open {}: {error}", path.display()));
        return;
    }
    for note in &settings.notes {
        tracing::info!("{note}");
    }
}

/// Reports a panic, which is an internal error of the plugin. The caller gets an error document and
/// not an empty stdout.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let details = panic.to_string().replace('\n', " ");
    plugin::log::complain(&format!("internal error: {details}"));
    let error = cni::CniError::new(cni::Code::Internal, details);
    let _ = deliver(&error.encode(cni::Version::NEWEST));
    #[allow(
        clippy::disallowed_methods,
        clippy::exit,
        reason = "a panic ends the process; the status must be 1, not a signal's"
    )]
    std::process::exit(1);
}
