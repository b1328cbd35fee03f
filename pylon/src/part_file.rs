//! Files that take their place only when they are complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// A file that is written beside the one whose place it takes, and removed unless it gets there.
pub struct PartFile {
    file: File,
    part: PathBuf,
    place: PathBuf,
    is_placed: bool,
}

impl PartFile {
    /// Begins the file that will be at `place`.
    ///
    /// # Errors
    /// It cannot be created; an unfinished one is there already, of a run that goes on or was killed.
    pub fn create(place: &Path) -> Result<Self, CliError> {
        let part = part_path(place);
        let file = File::create_new(&part).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CliError::Argument {
                what: part.display().to_string(),
                got: "there already".into(),
                expected:
                    "no such file: another run is writing it, or one that was killed left it and it can be removed"
                        .into(),
            },
            _ => cannot("write", &part)(error),
        })?;
        Ok(Self { file, part, place: place.to_owned(), is_placed: false })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file.write_all(bytes).map_err(cannot("write", &self.part))
    }

    /// Puts the file in its place, once its bytes are on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn place(mut self) -> Result<(), CliError> {
        self.file.sync_all().map_err(cannot("write", &self.part))?;
        fs::rename(&self.part, &self.place).map_err(cannot("write", &self.place))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // The error that counts is the one before.
            drop(fs::remove_file(&self.part));
        }
    }
}

/// Path of the unfinished file, beside the file whose place it takes.
pub fn part_path(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    place.with_file_name(name)
}

/// The error for a file that cannot be used in the way that `action` says.
pub fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::File { path, action, source }
}
