//! The demo model: part of every program that offers it, and here alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// File name of the demo model.
pub const DEMO_NAME: &str = "gpt-oss-nano.gguf";

/// Contents of the demo model's file, which is part of this program.
pub const DEMO: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// Writes the demo model into the user's cache folder, for programs that read models from files, and returns its path.
/// The file is written once; a file with other bytes is replaced. Without such a folder, or where it cannot be written,
/// the file goes among the temporary ones. `variable` reads the environment.
///
/// # Errors
/// It cannot be written in either place.
pub fn demo_file(variable: impl Fn(&str) -> Option<PathBuf>) -> io::Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let cache = set("XDG_CACHE_HOME").or_else(|| set("LOCALAPPDATA")).or_else(|| Some(home()?.join(".cache")));
    match cache.map(|cache| put_into(&cache.join("gptoss"))) {
        Some(Ok(path)) => Ok(path),
        // Nobody else can have made it: its name is new.
        Some(Err(_)) | None => {
            let folder = tempfile::Builder::new().prefix("gptoss-").tempdir()?.keep();
            put_into(&folder)
        }
    }
}

fn put_into(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(DEMO_NAME);
    if fs::read(&path).is_ok_and(|bytes| bytes == DEMO) {
        return Ok(path);
    }
    fs::create_dir_all(folder)?;
    let mut unfinished = tempfile::NamedTempFile::new_in(folder)?;
    unfinished.write_all(DEMO)?;
    // Another process that does the same puts the same bytes there.
    unfinished.persist(&path).map_err(|error| error.error)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_once_and_mended() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "HOME").then(|| home.path().to_owned());
        let path = demo_file(variable).unwrap();
        assert_eq!(path, home.path().join(".cache/gptoss").join(DEMO_NAME));
        assert!(fs::read(&path).unwrap() == DEMO);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(demo_file(variable).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "it is left alone");
        fs::write(&path, b"GGUF, cut").unwrap();
        assert!(fs::read(demo_file(variable).unwrap()).unwrap() == DEMO);
    }

    #[test]
    fn without_a_cache_folder_it_goes_among_the_temporary_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A file is no folder, whoever asks.
        for home in [None, Some(file.path().to_owned())] {
            let path = demo_file(|name| home.clone().filter(|_| name == "HOME")).unwrap();
            assert!(fs::read(&path).unwrap() == DEMO);
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }
}
