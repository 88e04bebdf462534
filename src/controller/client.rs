//! The client of the API server, and its errors as text.

use anyhow::Context;
use k8s::config::{KubeConfigOptions, Kubeconfig};
use k8s::{Client, Config};
use std::path::Path;

/// Returns a client for the API server that a kubeconfig names: this one, otherwise that of
/// $KUBECONFIG, otherwise the one in the home directory. Without any, in a pod, the client uses the
/// pod's ServiceAccount. Sends no request.
///
/// # Errors
/// No API server is configured, or a file cannot be read.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let failed = || format!("cannot use the kubeconfig: {}", path.display());
            let read = Kubeconfig::read_from(path).with_context(failed)?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .with_context(failed)?
        }
        None => Config::infer().await.context("no API server is configured")?,
    };
    // A write whose outcome is unknown must not be sent again without a look.
    config.default_retry = false;
    Client::try_from(config).context("cannot use the configuration of the API server")
}

/// Returns an error with a text for people: what the API server said, or the whole chain of causes.
pub(crate) fn explained(error: &k8s::Error) -> anyhow::Error {
    if let k8s::Error::Api(status) = error {
        return anyhow::anyhow!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        // Many of these errors contain the text of their cause.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    anyhow::anyhow!(text)
}
