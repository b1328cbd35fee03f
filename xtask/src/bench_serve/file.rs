//! The file that both servers serve.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// gguf-serve refuses files that do not begin like this.
pub const MAGIC: &[u8; 4] = b"GGUF";

const MIB: u64 = 1 << 20;

/// Gives a file of `size_mib` MiB in `folder`, written on first use, with its pages in memory.
pub fn prepare(folder: &Path, size_mib: u64) -> Result<PathBuf> {
    let file = folder.join(format!("random-{size_mib}-mib.gguf"));
    if !fs::metadata(&file).is_ok_and(|metadata| metadata.len() == size_mib * MIB) {
        println!("bench-serve: writing {size_mib} MiB to {}", file.display());
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Under another name until it is whole: a run that was interrupted must not leave something to be reused.
        let unfinished = file.with_extension("unfinished");
        write(&unfinished, size_mib).with_context(|| format!("cannot write {}", unfinished.display()))?;
        fs::rename(&unfinished, &file).with_context(|| format!("cannot rename {}", unfinished.display()))?;
    }
    read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(file)
}

/// Random bytes: no file system stores them as a hole, and no two places of the file are alike.
fn write(path: &Path, size_mib: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(MIB as usize, File::create(path)?);
    let mut random = SplitMix64::seed_from_u64(size_mib);
    file.write_all(MAGIC)?;
    file.write_all(&random.next_u64().to_le_bytes()[MAGIC.len()..])?;
    for _ in 1..size_mib * MIB / 8 {
        file.write_all(&random.next_u64().to_le_bytes())?;
    }
    // Nothing may be left for the system to write back while the servers are measured.
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn read(path: &Path) -> io::Result<()> {
    let mut file = BufReader::with_capacity(MIB as usize, File::open(path)?);
    io::copy(&mut file, &mut io::sink()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_once_and_has_no_holes() {
        let folder = tempfile::tempdir().expect("temp folder");
        let file = prepare(&folder.path().join("new"), 1).expect("first use");
        let bytes = fs::read(&file).expect("the file");
        assert_eq!(bytes.len() as u64, MIB);
        assert!(bytes.starts_with(MAGIC));
        assert!(bytes.chunks(4096).all(|page| page.iter().any(|&byte| byte != 0)));

        let written = fs::metadata(&file).expect("metadata").modified().expect("time");
        assert_eq!(prepare(&folder.path().join("new"), 1).expect("second use"), file);
        assert_eq!(fs::metadata(&file).expect("metadata").modified().expect("time"), written);
        fs::write(&file, MAGIC).expect("truncated");
        prepare(&folder.path().join("new"), 1).expect("third use");
        assert_eq!(fs::read(&file).expect("the file"), bytes);
    }
}
