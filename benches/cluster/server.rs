//! The API server that both plugins are measured on. `scripts/cluster` starts it, and the driver
//! sends requests as its administrator over a kept connection.

use crate::at_once::at_once;
use crate::options::Options;
use anyhow::{Context, Result, bail, ensure};
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use serde_json::Value;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
/// How many connections create objects.
const WRITERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server with its etcd, from start to end.
pub(crate) struct Server {
    script: PathBuf,
    kubectl: PathBuf,
    pub(crate) directory: PathBuf,
}

impl Server {
    /// Starts a server with the resources of both plugins.
    ///
    /// # Errors
    /// Fails if it does not start, or does not accept the manifests.
    pub(crate) fn start(options: &Options, directory: PathBuf) -> Result<Self> {
        let script = options.cluster.canonicalize()?;
        let server = Self { script, kubectl: options.kubectl.canonicalize()?, directory };
        server.script(&["up", "--no-deploy"])?;
        let theirs = directory_of(&server.directory)?.join("whereabouts.yaml");
        std::fs::write(&theirs, include_str!("whereabouts.yaml"))?;
        server.apply(&["-k".as_ref(), options.deploy.join("crd").as_os_str()])?;
        server.apply(&[
            "-n".as_ref(),
            "kube-system".as_ref(),
            "-f".as_ref(),
            options.deploy.join("node/rbac.yaml").as_os_str(),
        ])?;
        server.apply(&["-f".as_ref(), theirs.as_os_str()])?;
        server.wait_until_served()?;
        Ok(server)
    }

    /// Creates objects from some connections at once. Returns the time that it took.
    ///
    /// # Errors
    /// Fails if the server does not create one, or `object` fails.
    pub(crate) fn create_all(
        &self,
        path: &str,
        numbers: Range<usize>,
        object: &(dyn Fn(usize) -> Result<Value> + Sync),
    ) -> Result<Duration> {
        let next = AtomicUsize::new(numbers.start);
        at_once(WRITERS, |_| {
            let admin = self.admin()?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if numbers.end <= index {
                    return Ok(());
                }
                admin.create(path, &object(index)?)?;
            }
        })
    }

    /// Stops the server, and removes all its data.
    ///
    /// # Errors
    /// Fails if it does not stop.
    pub(crate) fn end(self) -> Result<()> {
        self.script(&["down"])
    }

    fn script(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.script);
        command.args(words).arg("--directory").arg(&self.directory).stdin(Stdio::null());
        succeeded(&mut command)
    }

    /// Applies manifests with kubectl.
    ///
    /// # Errors
    /// Fails if the server does not accept them.
    pub(crate) fn apply(&self, words: &[&std::ffi::OsStr]) -> Result<()> {
        let mut command = Command::new(&self.kubectl);
        succeeded(command.arg("--kubeconfig").arg(self.kubeconfig()).arg("apply").args(words))
    }

    /// Waits until the resources are served. At first, the server answers 429 for a new resource.
    fn wait_until_served(&self) -> Result<()> {
        let admin = self.admin()?;
        for path in [OUR_OBJECTS, POOLS, SLICES, THEIR_POOLS, THEIR_RESERVATIONS] {
            let start = Instant::now();
            while admin.status(Method::Get, &format!("{path}?limit=1"), None)?.0 != 200 {
                ensure!(start.elapsed() < PATIENCE, "not served: {path}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Returns the path of the administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// Opens a new connection. It must not be shared between threads.
    ///
    /// # Errors
    /// Fails if the kubeconfig cannot be read.
    pub(crate) fn admin(&self) -> Result<Admin> {
        let client = Client::open(&self.kubeconfig(), &ProxyVariables::default())?;
        Ok(Admin(client))
    }

    /// Writes the kubeconfig of a ServiceAccount in kube-system. With it, a plugin's requests are
    /// subject to authorization and to priority and fairness, as on a real node.
    ///
    /// # Errors
    /// Fails if the ServiceAccount does not exist.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> Result<PathBuf> {
        let path = format!("/api/v1/namespaces/kube-system/serviceaccounts/{account}/token");
        let asked = serde_json::json!({ "spec": { "expirationSeconds": 36_000 } });
        let (status, answer) = self.admin()?.status(Method::Post, &path, Some(&asked))?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer
            .pointer("/status/token")
            .and_then(Value::as_str)
            .with_context(|| format!("{path} answered {status}"))?;
        let text = std::fs::read_to_string(self.kubeconfig())?;
        let (front, _) =
            text.split_once("token: ").context("the administrator's kubeconfig has no token")?;
        let written = self.directory.join(format!("{account}.kubeconfig"));
        std::fs::write(&written, format!("{front}token: {token}\n"))?;
        Ok(written)
    }

    /// Returns the process ID of `etcd` or `apiserver`.
    ///
    /// # Errors
    /// Fails if the process ID is not known.
    pub(crate) fn process(&self, name: &str) -> Result<u32> {
        Ok(std::fs::read_to_string(self.directory.join(format!("{name}.pid")))?.trim().parse()?)
    }

    /// Returns the port on which etcd serves its metrics without TLS.
    ///
    /// # Errors
    /// Fails if the port is not known.
    pub(crate) fn etcd_port(&self) -> Result<u16> {
        let settings = std::fs::read_to_string(self.directory.join("settings"))?;
        let port = settings.lines().find_map(|line| line.strip_prefix("ETCD_PORT="));
        Ok(port.context("no ETCD_PORT in the settings")?.parse()?)
    }
}

fn directory_of(directory: &Path) -> Result<&Path> {
    directory.parent().context("the cluster's directory has none above it")
}

fn succeeded(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The path of hereabouts' objects.
pub(crate) const OUR_OBJECTS: &str = "/apis/hereabouts.dev/v1alpha1/ipallocations";
/// The paths of hereabouts' pools and slices.
pub(crate) const POOLS: &str = "/apis/hereabouts.dev/v1alpha1/ippools";
pub(crate) const SLICES: &str = "/apis/hereabouts.dev/v1alpha1/ipslices";
/// The paths of Whereabouts' objects.
pub(crate) const THEIR_POOLS: &str =
    "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools";
pub(crate) const THEIR_RESERVATIONS: &str =
    "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/overlappingrangeipreservations";

/// The administrator, who is exempt from priority and fairness.
pub(crate) struct Admin(Client);

impl Admin {
    /// Sends one request, and returns the status and the body of the answer.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub(crate) fn status(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>)> {
        let body = body.map(Value::to_string);
        let content = body.as_ref().map(|body| (JSON, body.as_bytes()));
        let answer = self.0.call(&Request { method, path, accept: JSON, content }, PATIENCE)?;
        Ok((answer.status, answer.body))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// Fails if the server does not create it.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Result<()> {
        match self.status(Method::Post, path, Some(object))? {
            (201, _) => Ok(()),
            (status, answer) => bail!(
                "creating in {path} was answered with {status}: {}",
                String::from_utf8_lossy(&answer)
            ),
        }
    }

    /// Deletes one object, or all objects of a collection.
    ///
    /// # Errors
    /// Fails if the server does not delete it.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        match self.status(Method::Delete, path, None)? {
            (200 | 404, _) => Ok(()),
            (status, answer) => bail!(
                "deleting {path} was answered with {status}: {}",
                String::from_utf8_lossy(&answer)
            ),
        }
    }

    /// Reads a path that is not an object.
    ///
    /// # Errors
    /// Fails if the server does not answer with 200.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        self.get(path, "*/*")
    }

    /// Reads a LIST as a table.
    ///
    /// # Errors
    /// Fails if the server does not answer with 200.
    pub(crate) fn table(&self, path: &str) -> Result<String> {
        self.get(path, "application/json;as=Table;v=v1;g=meta.k8s.io")
    }

    fn get(&self, path: &str, accept: &str) -> Result<String> {
        let request = Request { method: Method::Get, path, accept, content: None };
        let answer = self.0.call(&request, PATIENCE)?;
        ensure!(answer.status == 200, "{path} was answered with {}", answer.status);
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}
