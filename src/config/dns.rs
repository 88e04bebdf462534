//! DNS settings of the result: the `dns` object of a configuration, and the file that host-local's
//! `resolvConf` names (resolv.conf(5)). The plugin reads the file only if `dns` is empty.

use super::ConfigError;
use super::merge::{Merged, Setting};
use std::path::{Component, Path, PathBuf};

type Result<T> = std::result::Result<T, ConfigError>;

/// The `dns` object of the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// The addresses of name servers.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// The search list.
    pub search: Vec<String>,
    /// The resolver options.
    pub options: Vec<String>,
}

/// The file that provides `dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// The path of the file.
    pub path: PathBuf,
    /// Whether the node's own flat file names it.
    pub own: bool,
}

impl ResolvConf {
    const BELOW: [&str; 2] = ["/etc", "/run/systemd"];

    /// Returns whether a network configuration may read a file at `place`. /etc/resolv.conf may
    /// lead anywhere, because distributions make it a symbolic link.
    #[must_use]
    pub fn may_be_at(&self, place: &Path) -> bool {
        let is_below = |root: &str| place != Path::new(root) && place.starts_with(root);
        self.own
            || self.path == Path::new("/etc/resolv.conf")
            || Self::BELOW.into_iter().any(is_below)
    }
}

/// Returns the file that `resolvConf` names.
pub(super) fn resolv_conf(merged: &Merged<'_>) -> Result<Option<ResolvConf>> {
    let Some(Setting { field, own, .. }) = merged.find("resolvConf") else {
        return Ok(None);
    };
    let file = ResolvConf { path: PathBuf::from(field.text()?), own };
    let plain = file.path.components().all(|part| !matches!(part, Component::ParentDir));
    if !plain || !file.may_be_at(&file.path) {
        return Err(field.wrong("expected a file below /etc or /run/systemd, because only the node's own flat file may name another"));
    }
    Ok(Some(file))
}

/// Returns the `dns` object of the configuration.
pub(super) fn configured(merged: &Merged<'_>) -> Result<Dns> {
    let Some(field) = merged.field("dns") else {
        return Ok(Dns::default());
    };
    field.object()?;
    let texts = |key: &str| field.find(key).map_or(Ok(Vec::new()), |field| field.texts());
    Ok(Dns {
        nameservers: texts("nameservers")?,
        domain: field.find("domain").map(|field| field.text().map(str::to_owned)).transpose()?,
        search: texts("search")?,
        options: texts("options")?,
    })
}

impl Dns {
    /// Returns whether there are no settings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads a resolv.conf as resolv.conf(5) describes it. Ignores lines with other keywords.
    #[must_use]
    pub fn from_resolv_conf(bytes: &[u8]) -> Self {
        let mut dns = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default();
            let values = words.take_while(|word| !word.starts_with(['#', ';'])).map(str::to_owned);
            match key {
                "nameserver" => dns.nameservers.extend(values.take(1)),
                "domain" => dns.domain = values.take(1).next(),
                "search" => dns.search = values.collect(),
                "options" => dns.options.extend(values),
                _ => {}
            }
        }
        dns
    }
}
