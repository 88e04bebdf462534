//! The controller as a process, with its log in a file, and its HTTP server.

use super::sandbox::Sandbox;
use hereabouts::retry::{Deadline, until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The executable under test.
pub(crate) const CONTROLLER: &str = env!("CARGO_BIN_EXE_hereabouts-controller");

/// Returns a command of the controller without an environment.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(CONTROLLER);
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Returns after this time.
pub(crate) fn pause(time: Duration) {
    let _ = until(&Deadline::after(time), || Ok::<Option<()>, ()>(None));
}

/// Returns the last lines of a log, for people.
pub(crate) fn end_of_log(path: &Path) -> String {
    const LINES: usize = 60;
    let log = std::fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let end = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    format!("the end of {}:\n{}", path.display(), end.join("\n"))
}

/// A running controller. It is killed when this value is dropped.
pub(crate) struct Replica {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Replica {
    /// Starts a controller on a free port, and returns when it listens.
    pub(crate) fn start(sandbox: &Sandbox, kubeconfig: &Path, args: &[&str]) -> Self {
        let kubeconfig = kubeconfig.to_str().unwrap();
        let first = ["--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"];
        Self::spawn(sandbox, command(&[&first, args].concat()))
    }

    /// Starts this command of a controller that chooses its own port.
    pub(crate) fn spawn(sandbox: &Sandbox, mut command: Command) -> Self {
        let number = std::fs::read_dir(&sandbox.root).unwrap().count();
        let log = sandbox.path(&format!("controller-{number}.log"));
        let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut replica = Self { child, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let address = replica.wait(20, "its port", |replica| {
            let log = replica.log();
            let rest = log.split_once(" listens on ")?.1;
            rest.split_once('\n')?.0.trim().parse().ok()
        });
        replica.address = address;
        replica
    }

    /// Returns its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Calls `look` until it returns a value. Fails the test after these seconds.
    pub(crate) fn wait<T>(
        &mut self,
        seconds: u64,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Deadline::after(Duration::from_secs(seconds));
        until(&deadline, || Ok::<_, ()>(look(self)))
            .unwrap()
            .unwrap_or_else(|| panic!("no {what} in {seconds} s"))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Returns the exit status of a process that ends within these seconds; `None` means a signal.
    pub(crate) fn ended(&mut self, seconds: u64) -> Option<i32> {
        self.wait(seconds, "end", |replica| replica.child.try_wait().unwrap()).code()
    }

    /// Returns the most memory that it has used so far, in MiB (`VmHWM`).
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends bytes and returns what is answered until the connection ends.
    pub(crate) fn send(&self, bytes: &[u8]) -> std::io::Result<String> {
        let patience = Duration::from_secs(30);
        let mut stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        // A server that closes a connection with unread bytes resets it.
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            read?;
        }
        Ok(String::from_utf8(answer).unwrap())
    }

    /// Makes a request.
    pub(crate) fn request(&self, method: &str, path: &str) -> std::io::Result<Page> {
        let answer =
            self.send(format!("{method} {path} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes())?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Ok(Page { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    pub(crate) fn get(&self, path: &str) -> Page {
        self.request("GET", path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Returns the value of a metric with these labels, as it is written: `name{label="value"}`.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.request("GET", "/metrics").ok()?.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("hereabouts_controller_is_leader") == Some(1.0)
    }
}

impl Drop for Replica {
    /// Also prints the end of its log if the test fails, whatever has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", end_of_log(&self.log));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A controller that ends with this value, and with this process: nothing drops a static.
pub(crate) struct Kept(Child);

impl Kept {
    /// Starts a controller on a free port.
    pub(crate) fn start(kubeconfig: &Path, log: &Path) -> Self {
        // The shell ends the controller when this process closes its pipe.
        let keeper = r#""$0" "$@" 2>>"$LOG" & read -r line; kill -9 $!; wait $! 2>/dev/null"#;
        let child = Command::new("sh")
            .args(["-c", keeper, CONTROLLER, "--listen=127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .env("LOG", log)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
