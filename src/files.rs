//! Reads files whose paths come from the configuration.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a file up to a maximal length: a path may lead to a device that has no end.
pub fn read(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(max_bytes as u64 + 1);
    file.read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        let message = format!("longer than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
