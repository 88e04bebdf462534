//! The networks as hereabouts will serve them: which scope an imported address gets.

use crate::cli::HintedError;
use crate::cli::input_files::{self, Input, Stdin};
use crate::config::{CniArgs, ConfigError, Content, FlatFile, Merged, Network, networks};
use crate::ipam::NetworkName;
use crate::json::Json;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

/// The networks that `--network` names, by the name that a DEL gives.
pub(super) struct NewNetworks<'f> {
    flat: Option<&'f FlatFile>,
    named: HashMap<String, Result<Rc<Network>, String>>,
}

impl<'f> NewNetworks<'f> {
    /// Reads the files and directories of `--network`.
    ///
    /// # Errors
    /// A file cannot be read, or has no network.
    pub(super) fn read(paths: &[PathBuf], flat: Option<&'f FlatFile>) -> anyhow::Result<Self> {
        let mut all = Self { flat, named: HashMap::new() };
        let stdin = Stdin::default();
        let mut first = None;
        for path in paths {
            input_files::each(path, &stdin, &mut |input| {
                if let Err(error) = all.add(input) {
                    first.get_or_insert(error);
                }
            });
        }
        first.map_or(Ok(all), Err)
    }

    fn add(&mut self, input: Input) -> anyhow::Result<()> {
        let (name, last_name, bytes) = match input {
            Input::File { name, last_name, bytes, .. } => (name, last_name, bytes),
            Input::Unreadable(reason) => return Err(anyhow::anyhow!("--network: {reason}")),
        };
        let flat = self.flat;
        networks(&bytes, &last_name, &mut |found| {
            let Content::Plugin { configuration, .. } = found.content else { return };
            if let Some(name) = configuration.find("name").and_then(Json::as_str) {
                let parsed = parse(&configuration, flat);
                self.named.insert(name.to_owned(), parsed.map(Rc::new));
            }
        })
        .map_err(|error| {
            HintedError::new(
                format!("--network: {name}: {error}"),
                "pass plugin lists, plugin configurations or NetworkAttachmentDefinitions",
            )
        })?;
        Ok(())
    }

    /// Returns the network of a name as it will be: from `--network`, otherwise from the
    /// configuration that it has now.
    ///
    /// # Errors
    /// The reason why hereabouts cannot serve it.
    pub(super) fn find(&self, name: &NetworkName, now: &Json) -> Result<Rc<Network>, String> {
        match self.named.get(name.as_str()) {
            Some(network) => network.clone(),
            None => parse(now, self.flat).map(Rc::new),
        }
    }
}

fn parse(configuration: &Json, flat: Option<&FlatFile>) -> Result<Network, String> {
    let merged = Merged::new(configuration, flat).map_err(|error| error.to_string())?;
    Network::parse(&merged, &CniArgs::default())
        .map_err(|mistakes| ConfigError::from(mistakes).to_string())
}
