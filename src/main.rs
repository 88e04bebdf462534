//! Picks plugin or command line by `CNI_COMMAND`, and wires the process's
//! ports: environment, standard streams, clock of the parent, panic report.
//!
//! The C library starts it, not Rust's own start, which prepares a report of stack
//! overflows: a second stack, handlers, and a look through /proc/self/maps. That
//! took 80 us of each call, a sixteenth of an ADD. What else that does is done in
//! `settle_signals` and `fill_streams`.

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

/// The only reader of the process environment.
#[allow(clippy::disallowed_methods, reason = "main hands the environment to everybody else")]
fn lookup(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// What the C library calls. Only glibc gives the words of the command line to a
/// program that Rust did not start.
#[cfg(all(target_env = "gnu", not(test)))]
#[allow(unsafe_code, reason = "the name is that of the C library, and nothing else has it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    end()
}

#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() {
    end()
}

#[allow(clippy::disallowed_methods, clippy::exit, reason = "flushes the standard streams, all else is closed")]
fn end() -> ! {
    std::process::exit(run())
}

/// The exit status.
#[allow(clippy::disallowed_methods, reason = "main hands the environment to everybody else")]
fn run() -> i32 {
    let parent = nix::unistd::getppid();
    settle_signals();
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
    let ipam = plugin::Ipam { environment: &environment, log: &start_log, report, orphaned: &orphaned, surroundings };
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
            machine.pay_debts(&end_within);
            0
        }
        cni::Outcome::Failed(error) => {
            plugin::log::complain(&error.to_string());
            1
        }
    }
}

/// What becomes of a signal is inherited. A write beyond the limit on the size of
/// files, or to a reader that has gone, has to fail, not to end the process without
/// a word; and of a child that ends, whoever waits for it has to hear.
fn settle_signals() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let (ignored, default) = (SigHandler::SigIgn, SigHandler::SigDfl);
    for (signal, handler) in [(Signal::SIGXFSZ, ignored), (Signal::SIGPIPE, ignored), (Signal::SIGCHLD, default)] {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        #[allow(unsafe_code, reason = "the kernel's own way with a signal is set, no handler of ours")]
        // SAFETY: no code runs for either, and no other thread is there yet.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Puts /dev/null in the place of a standard stream that is closed: the next file
/// would have its number, and what is printed would go into it.
fn fill_streams() {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].map(|stream| PollFd::new(stream, PollFlags::empty()));
    if poll(&mut streams, PollTimeout::ZERO).is_ok_and(|count| count == 0) {
        return;
    }
    let closed = streams.iter().filter(|stream| stream.revents().is_some_and(|seen| seen.contains(PollFlags::POLLNVAL)));
    for _ in closed {
        // The lowest number that is free.
        match nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty()) {
            Ok(null) => std::mem::forget(null),
            Err(_) => std::process::abort(),
        }
    }
}

/// Ends the process with success after so long, whatever it is at: the caller has
/// its answer and waits for the end alone. What is cut off is as safe as a kill.
/// Whether that is so: where no more processes are allowed, there is no thread.
#[allow(clippy::disallowed_methods, clippy::exit, reason = "the answer is delivered, and no system call may keep its caller waiting")]
fn end_within(limit: Duration) -> bool {
    let end = move || {
        std::thread::sleep(limit);
        std::process::exit(0);
    };
    std::thread::Builder::new().spawn(end).is_ok()
}

/// Whether somebody answers: the call, or who ends it when it is late.
static IS_ANSWERED: AtomicBool = AtomicBool::new(false);

/// The first of the two goes on; for the other the process ends under it.
fn answer(bytes: &[u8]) -> io::Result<()> {
    // The call may write twice: a result that nobody could read, and that error.
    static BY_CALL: AtomicBool = AtomicBool::new(false);
    if !BY_CALL.swap(true, Ordering::SeqCst) && IS_ANSWERED.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    deliver(bytes)
}

/// Sees to it that a call has an answer in time which uses a filesystem whose server may
/// never answer. A process in such a system call cannot even be killed when the server
/// has taken the request: so another one asks first. Then a thread watches this one:
/// where the server falls silent later, the answer is in time, and the process ends when
/// the server does.
#[allow(clippy::disallowed_methods, reason = "the call is at what may never end, and nothing of it is waited for")]
fn end_when_late(late: plugin::Late) {
    if !answers(&late) {
        end_late(&late);
    }
    make_room_for_descriptors();
    let watch = move || {
        // The timer of the locks is to interrupt the call, not this.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        std::thread::sleep(late.after());
        end_late(&late);
    };
    if let Err(error) = std::thread::Builder::new().spawn(watch) {
        plugin::log::complain(&format!("no thread can be started that would end this call in time: {error}"));
    }
}

/// The locks have descriptors from 900 on. Where threads share a table of descriptors, the
/// kernel waits for all processors before it makes it larger, 10 ms: so that is done first.
fn make_room_for_descriptors() {
    const HIGH: i32 = 900;
    if let Ok(high) = nix::fcntl::fcntl(io::stdout(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(HIGH)) {
        let _ = nix::unistd::close(high);
    }
}

/// Answers in the place of the call, unless it has answered, and ends the process.
#[allow(clippy::disallowed_methods, clippy::exit, reason = "the call is at what may never end, and nothing of it is waited for")]
fn end_late(late: &plugin::Late) {
    if !IS_ANSWERED.swap(true, Ordering::SeqCst) {
        let (error, document) = late.answer();
        let _ = deliver(&document);
        plugin::log::complain(&error.to_string());
        std::process::exit(1);
    }
}

/// Whether a process of its own that looks at the store comes back in time. One that
/// does not holds nothing that our caller waits for, and ends with its system call.
/// Where none can be started the call goes on: it is no worse off than without.
fn answers(late: &plugin::Late) -> bool {
    use nix::unistd::{ForkResult, fork};
    let Ok((back, end)) = io::pipe() else { return true };
    #[allow(unsafe_code, reason = "no other call makes a process that shares nothing with its parent")]
    // SAFETY: no other thread is there yet, so that the child may do what we may.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => look_and_end(late, back),
        Ok(ForkResult::Parent { child }) => {
            drop(end);
            let limit = PollTimeout::try_from(late.after()).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(back.as_fd(), PollFlags::POLLIN)], limit) {
                Ok(0) => {
                    // It ends when the server answers, and goes no further.
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

/// What the child does. Its end of the pipe is closed when it ends, and our caller's
/// streams at once.
#[allow(unsafe_code, reason = "streams are closed by their numbers, and a child runs nothing at its exit")]
fn look_and_end(late: &plugin::Late, back: io::PipeReader) -> ! {
    drop(back);
    for stream in 0..3 {
        // SAFETY: nothing reads from or writes to it from here on.
        let _ = unsafe { nix::libc::close(stream) };
    }
    late.look();
    // SAFETY: ends this process alone.
    unsafe { nix::libc::_exit(0) }
}

/// Stdin whose other end may have made it non-blocking, or may have left it open
/// and silent, or writes a byte now and then: all reads of it end within a minute.
struct Stdin(Option<Instant>);

/// Within this a caller has to have written its configuration.
const WRITING: Duration = Duration::from_secs(60);

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[allow(clippy::disallowed_methods, reason = "main may not use the store's clock")]
        let begun = *self.0.get_or_insert_with(Instant::now);
        let stdin = io::stdin();
        loop {
            let left = WRITING.saturating_sub(begun.elapsed()).as_millis();
            match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], u16::try_from(left).unwrap_or(u16::MAX)) {
                Ok(_) if left == 0 => return Err(io::Error::new(io::ErrorKind::TimedOut, "no end of input within 60 s")),
                // To read now would wait for ever.
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) | Err(_) => {}
            }
            match nix::unistd::read(stdin.as_fd(), buffer) {
                // Another reader was faster.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

/// So long a caller may take to read: while it does an ADD keeps others of its
/// attachment waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pipe that says it has room takes so many bytes at once, and no write blocks.
const AT_ONCE: usize = 4096;

/// Writes to the descriptor itself: a buffer would swallow the error of the
/// last write.
#[allow(clippy::disallowed_methods, reason = "main may not use the store's clock")]
fn deliver(mut bytes: &[u8]) -> io::Result<()> {
    let (stdout, begun) = (io::stdout(), Instant::now());
    while !bytes.is_empty() {
        let left = PATIENCE.saturating_sub(begun.elapsed()).as_millis();
        match poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], u16::try_from(left).unwrap_or(u16::MAX)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the reader took nothing for 10 s")),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        match nix::unistd::write(stdout.as_fd(), &bytes[..bytes.len().min(AT_ONCE)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            // Another writer was faster.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is written to the null device is delivered to nobody: it is in the place of
/// a stdout that was closed before the start, see `fill_streams`.
fn undeliverable() -> Option<String> {
    let null = nix::sys::stat::stat("/dev/null").ok()?;
    let stdout = nix::sys::stat::fstat(io::stdout().as_fd()).ok()?;
    let device = nix::sys::stat::SFlag::from_bits_truncate(stdout.st_mode) & nix::sys::stat::SFlag::S_IFMT;
    (device == nix::sys::stat::SFlag::S_IFCHR && stdout.st_rdev == null.st_rdev)
        .then(|| "stdout: expected a reader for the result, found a closed stream or the null device; nothing was allocated".to_owned())
}

/// Whether reading stdin would return at once: VERSION must not wait for a
/// stdin that was left open. A caller that writes needs a moment to.
fn is_stdin_ready() -> bool {
    let stdin = io::stdin();
    let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::from(100u16)).is_ok_and(|count| 0 < count)
}

/// Logs to the configured file; a log that cannot be written fails no verb.
fn start_log(settings: &config::LogSettings, subject: &dyn Fn() -> plugin::log::Subject) {
    if let Some(reason) = &settings.refused {
        plugin::log::complain(reason);
    }
    let Some(path) = &settings.file else {
        return;
    };
    if let Err(error) = plugin::log::start(path, settings, &subject()) {
        plugin::log::complain(&format!("log_file: cannot open {}: {error}", path.display()));
    }
}

/// A panic is a fault of ours: the caller gets a document, not an empty stdout.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let details = panic.to_string().replace('\n', " ");
    plugin::log::complain(&format!("internal error: {details}"));
    let error = cni::CniError::new(cni::Code::Internal, details);
    let _ = deliver(&error.encode(cni::Version::NEWEST));
    #[allow(clippy::disallowed_methods, clippy::exit, reason = "a panic ends the process; the status must be 1, not a signal's")]
    std::process::exit(1);
}
