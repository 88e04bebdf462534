//! Reads the host name and the flat file of the machine. It decides nothing. `evidence` examines
//! boot, hardware and sandboxes.

pub use super::evidence::Machine;
use super::failure::Failure;
use super::named_file;
use crate::config::{
    Chosen, ConfigError, FlatFile, Problem, ResolvConf, Settings, StoreKind, chosen_places,
    flat_file_places,
};
use crate::environment::NodeVariables;
use crate::ipam::NodeName;
pub use crate::small_file::{error_text, read_small};
use nix::errno::Errno;
use nix::sys::stat::stat;
use std::io;
use std::path::{Path, PathBuf};

/// The variable that names a flat file explicitly. The operator of a process sets its environment.
pub const CONFIG_VARIABLE: &str = "HEREABOUTS_CONFIG";

/// Finds and parses the node's own flat file. The file that the network configuration's
/// `configuration_path` names is laid over it. That path never decides whether the node's own file
/// is read: only the node's operator says who the node is.
///
/// # Errors
/// A flat file exists and cannot be used; or the environment names one that does not exist.
pub fn flat_file(
    variables: &NodeVariables,
    configuration_path: Option<&str>,
) -> Result<Option<FlatFile>, ConfigError> {
    let own = own_flat_file(variables)?;
    let allowed = allowed_paths(own.as_ref());
    let read_chosen = |path: &Path| named_file::read(path, &allowed).map(|(_, bytes)| bytes);
    let chosen = configuration_path
        .map(|path| first_of(chosen_places(Path::new(path)), Chosen::ByNetwork, &read_chosen));
    let chosen = chosen.transpose()?.flatten();
    // Networks of Whereabouts also name the node's own flat file, which is found anyway.
    let is_own = |file: &FlatFile| own.as_ref().is_some_and(|own| own.path() == file.path());
    Ok(match chosen.filter(|file| !is_own(file)) {
        Some(chosen) => Some(chosen.above(own)),
        None => own,
    })
}

fn own_flat_file(variables: &NodeVariables) -> Result<Option<FlatFile>, ConfigError> {
    let Some(path) = &variables.config else {
        return first_of(flat_file_places(), Chosen::ByNode, &read_small);
    };
    let path = PathBuf::from(path);
    let bytes = read_small(&path).map_err(|error| unreadable(&path, &error))?;
    FlatFile::parse(path, &bytes, Chosen::ByNode).map(Some)
}

fn first_of(
    places: Vec<PathBuf>,
    chosen: Chosen,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Option<FlatFile>, ConfigError> {
    for path in places {
        match read(&path) {
            Ok(bytes) => return FlatFile::parse(path, &bytes, chosen).map(Some),
            // configuration_path may also name a directory.
            Err(error)
                if is_nothing(&error) || error.raw_os_error() == Some(Errno::EISDIR as i32) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(None)
}

fn allowed_paths(flat: Option<&FlatFile>) -> Vec<PathBuf> {
    flat.and_then(FlatFile::own).map(FlatFile::allowed_paths).unwrap_or_default()
}

/// Reads the file that `resolvConf` names.
///
/// # Errors
/// The file cannot be read, or leads to a place that no network configuration may read.
pub fn read_resolv_conf(file: &ResolvConf, flat: Option<&FlatFile>) -> io::Result<Vec<u8>> {
    if file.own {
        return read_small(&file.path);
    }
    let (place, bytes) = named_file::read(&file.path, &allowed_paths(flat))?;
    if file.may_be_at(&place) {
        return Ok(bytes);
    }
    Err(io::Error::other(format!(
        "it leads to {}, which is not below /etc or /run/systemd",
        place.display()
    )))
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    let reason = format!("cannot read the flat file: {}", error_text(error));
    ConfigError { problem: Problem::Read, place: path.display().to_string(), reason, hint: None }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENOTDIR))
}

/// Returns this node's name: `node_name` of the node's own flat file, otherwise `NODENAME`,
/// otherwise the `nodename` file next to that flat file, otherwise, for a store of one machine, the
/// host name.
///
/// # Errors
/// The name is not valid, or is one that many machines share.
pub fn node_name(
    variables: &NodeVariables,
    settings: &Settings,
    flat: Option<&FlatFile>,
) -> Result<NodeName, Failure> {
    if let Some(name) = &settings.node_name {
        return Ok(name.clone());
    }
    let wrong = |place: &str, value: &str| {
        let reason = format!("expected a node name, found {}", crate::json::excerpt(value));
        ConfigError { problem: Problem::Meaning, place: place.to_owned(), reason, hint: None }
    };
    let parse = |place: &str, text: &str| NodeName::parse(text).map_err(|_| wrong(place, text));
    if let Some(value) = &variables.name {
        return Ok(parse("NODENAME", &value.to_string_lossy())?);
    }
    if let Some(path) = flat
        .and_then(|flat| flat.own()?.path().parent())
        .map(|directory| directory.join("nodename"))
    {
        match read_small(&path) {
            Ok(bytes) => {
                return Ok(parse(
                    &path.display().to_string(),
                    String::from_utf8_lossy(&bytes).trim(),
                )?);
            }
            Err(error) if is_nothing(&error) => {}
            Err(error) => {
                return Err(Failure::Machine {
                    path: path.display().to_string(),
                    reason: error_text(&error),
                });
            }
        }
    }
    let must_be_given = |reason: &str, name: &str| {
        ConfigError {
        problem: Problem::Meaning,
        place: "node_name".to_owned(),
        reason: format!("{reason}, found only the host name {}", crate::json::excerpt(name)),
        hint: Some("set node_name in the flat file or the variable NODENAME, or write the file nodename beside the flat file".to_owned()),
    }
    };
    let name = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if name == "localhost" || name.starts_with("localhost.") {
        return Err(must_be_given("expected a name that no other machine has", &name).into());
    }
    if settings.store.kind != StoreKind::File {
        let reason = "the Kubernetes store needs the name of this machine's Node object";
        return Err(must_be_given(reason, &name).into());
    }
    if is_shared(&settings.store.data_dir) {
        return Err(must_be_given(
            "a store on a filesystem that machines share needs an explicit name",
            &name,
        )
        .into());
    }
    Ok(parse("host name", &name)?)
}

/// Returns whether the directory, or the nearest existing one above it, is on a filesystem that
/// other machines may reach.
pub(super) fn is_shared(directory: &Path) -> bool {
    use crate::store::disk::{Disk, RealDisk};
    let nearest = directory.ancestors().find(|path| path.is_dir());
    nearest.is_some_and(|path| !RealDisk::new(path.to_owned()).is_local().unwrap_or(true))
}

/// Returns whether the path leads to the namespace that this process is in.
#[must_use]
pub fn is_own_netns(path: &Path) -> bool {
    let own = stat("/proc/self/ns/net");
    own.is_ok_and(|own| {
        stat(path).is_ok_and(|other| (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
    })
}
