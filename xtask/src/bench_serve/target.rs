//! A server that is measured, as the client sees it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::client::Connection;

/// A server that serves the file.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    pub address: SocketAddr,
    /// The file's path in a request.
    pub path: String,
    pub file_bytes: u64,
    pub process_id: u32,
}

impl Target {
    /// `url` is the server's, without a path; both servers have the file at its name.
    pub fn new(name: &'static str, url: &str, process_id: u32, file: &Path) -> Result<Self> {
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        let address = address.with_context(|| format!("{url} has no address that can be connected to"))?;
        let file_name = file.file_name().context("the file has no name")?.display();
        let path = format!("/{file_name}");
        let file_bytes = file.metadata().with_context(|| format!("cannot look at {}", file.display()))?.len();
        Ok(Self { name, address, path, file_bytes, process_id })
    }

    /// Checks once that the bytes are the file's, at its beginning, middle and end. What comes later is only counted.
    pub fn check(&self, file: &Path) -> Result<()> {
        const LENGTH: u64 = 64 << 10;
        let mut connection = Connection::open(self)?;
        for offset in [0, self.file_bytes / 2, self.file_bytes - LENGTH] {
            let mut received = Vec::new();
            connection.get(offset, LENGTH, |bytes| received.extend_from_slice(bytes))?;
            let expected = read_at(file, offset, LENGTH).with_context(|| format!("cannot read {}", file.display()))?;
            ensure!(received == expected, "{} sends other bytes than the file's at {offset}", self.name);
        }
        Ok(())
    }
}

fn read_at(file: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
