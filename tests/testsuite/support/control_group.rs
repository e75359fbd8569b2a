//! A control group whose processes have little memory (cgroups(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::running::wait_until;

/// Removed when it is dropped, when its processes have ended.
pub struct ControlGroup(PathBuf);

impl ControlGroup {
    /// One with so many bytes of memory, in whichever version of control groups there is. `None` if none
    /// can be made, because this is not root, or memory is not controlled.
    pub fn of_memory(bytes: u64) -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        versions
            .into_iter()
            .find_map(|(root, limit)| Self::make(Path::new(root), limit, bytes).ok())
    }

    fn make(root: &Path, limit: &str, bytes: u64) -> io::Result<Self> {
        if !root.join("cgroup.procs").exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let dir = root.join(format!("pipelined-cargo-test-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let group = ControlGroup(dir);
        // Where memory is not controlled there is no such file, and none can be made.
        fs::write(group.0.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// Who writes `0` or its number to this file is in the group.
    pub fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        wait_until("the control group is empty", || {
            fs::remove_dir(&self.0).is_ok()
        });
    }
}
