//! Limits the memory that glibc's allocator keeps after it has been freed.
//!
//! glibc adapts: once a block of up to 32 MiB has been freed, later ones of that size come from arenas, of which there are eight
//! for each processor, and which keep what is freed. Measured with large notifications on two processors: 350 MiB resident where
//! the memory budget was 128 MiB, and 135 MiB with the settings below. glibc reads them from the environment when a program starts;
//! so the program starts itself once more.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where glibc reads its settings (mallopt(3)). A value that an administrator has set stays.
const VARIABLE: &str = "GLIBC_TUNABLES";

/// Blocks from 128 KiB on are always returned to the system; no more arenas than there are threads that map notifications.
const SETTINGS: &str = "glibc.malloc.mmap_threshold=131072:glibc.malloc.arena_max=8";

/// Replaces this process by the same program with the settings. Returns only where they are set already, or the error.
pub fn configure() -> io::Result<()> {
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    Err(Command::new(&program)
        .arg0(name.unwrap_or_else(|| program.into_os_string()))
        .args(arguments)
        .env(VARIABLE, SETTINGS)
        .exec())
}
