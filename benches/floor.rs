//! The floor of an ADD: the least work with which a process makes one record durable under a name
//! that only one process can take. It has no configuration, no lock, no choice of an address, and
//! no answer.
//!
//! `floor DIRECTORY NAME`: open, write 300 bytes, sync, link, sync the directory, unlink. `calls`
//! compares ADD with it. Without arguments it does nothing, which measures the cost of a process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn commit(directory: &Path, name: &str) -> io::Result<()> {
    let names = File::open(directory)?;
    let temporary = directory.join(format!("{name}.tmp"));
    let mut record = File::create_new(&temporary)?;
    record.write_all(&[b'.'; 300])?;
    record.sync_all()?;
    fs::hard_link(&temporary, directory.join(name))?;
    names.sync_all()?;
    fs::remove_file(temporary)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => ExitCode::SUCCESS,
        [directory, name] if commit(Path::new(directory), name).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
