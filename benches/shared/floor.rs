//! Floors without gRPC: what the kernel and the disk take for themselves.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use super::samples::Samples;
use crate::Result;

/// 16 bytes there and back on a blocking Unix socket, between two threads.
pub fn ping_pong(count: usize) -> Result<Samples> {
    let (mut here, mut there) = UnixStream::pair()?;
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 16];
        while there.read_exact(&mut bytes).is_ok() && there.write_all(&bytes).is_ok() {}
    });
    let mut samples = Samples::default();
    let mut bytes = [7; 16];
    for _ in 0..count {
        let began = Instant::now();
        here.write_all(&bytes)?;
        here.read_exact(&mut bytes)?;
        samples.add(began.elapsed());
    }
    drop(here);
    echo.join().map_err(|_| "the echo panicked")?;
    Ok(samples)
}

/// A file that is appended to, in the repository's filesystem.
pub struct Appended(File);

impl Appended {
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("appended");
        Ok(Self(
            OpenOptions::new().append(true).create(true).open(path)?,
        ))
    }

    /// Appends of 4 KiB, each followed by an `fdatasync`.
    pub fn syncs(&mut self, count: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..count {
            let began = Instant::now();
            self.0.write_all(&[1; 4096])?;
            self.0.sync_data()?;
            samples.add(began.elapsed());
        }
        Ok(samples)
    }
}
