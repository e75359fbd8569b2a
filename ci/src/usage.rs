//! What a command and everything below it used.

pub use replay::usage::cpu_of_children;

#[cfg(target_os = "linux")]
pub use memory::Sampler;

/// Looks at the memory of processes where that can be done.
#[cfg(not(target_os = "linux"))]
pub enum Sampler {}

#[cfg(not(target_os = "linux"))]
impl Sampler {
    /// Fails.
    pub fn of_children() -> anyhow::Result<Self> {
        anyhow::bail!("how much memory a build holds can only be measured on Linux")
    }

    /// There is none to tell it.
    pub fn peak(self) -> u64 {
        match self {}
    }
}

#[cfg(target_os = "linux")]
mod memory {
    use std::collections::HashMap;
    use std::sync::mpsc::{self, RecvTimeoutError, Sender};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use anyhow::{Context, Result};
    use procfs::process::{self, Process};

    /// How often the memory is looked at. The kernel counts none for a tree of processes.
    const EVERY: Duration = Duration::from_millis(50);

    /// Looks at the memory of a process and all below it from time to time.
    ///
    /// What several of them share (the compiler's own code) counts once: each has its proportional
    /// share (`Pss` of proc_pid_smaps(5)). To ask for it takes the kernel long, so what is timed
    /// should not be sampled.
    pub struct Sampler {
        stop: Sender<()>,
        thread: JoinHandle<u64>,
    }

    impl Sampler {
        /// Begins to look at all that is below this process.
        pub fn of_children() -> Result<Self> {
            let root = Process::myself()
                .context("could not read /proc/self")?
                .pid();
            let (stop, stopped) = mpsc::channel();
            let thread = thread::spawn(move || {
                let mut peak = 0;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                    peak = peak.max(held_below(root));
                }
                peak
            });
            Ok(Sampler { stop, thread })
        }

        /// The most that they ever held together, in bytes.
        pub fn peak(self) -> u64 {
            drop(self.stop);
            self.thread.join().unwrap_or(0)
        }
    }

    /// What has ended while it is looked at holds nothing.
    fn held_below(root: i32) -> u64 {
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        let all = process::all_processes().into_iter().flatten().flatten();
        for process in all {
            if let Ok(stat) = process.stat() {
                children.entry(stat.ppid).or_default().push(process);
            }
        }
        let mut held = 0;
        let mut unvisited = children.remove(&root).unwrap_or_default();
        while let Some(process) = unvisited.pop() {
            unvisited.extend(children.remove(&process.pid()).unwrap_or_default());
            held += proportional(&process).unwrap_or(0);
        }
        held
    }

    fn proportional(process: &Process) -> Option<u64> {
        let maps = process.smaps_rollup().ok()?.memory_map_rollup;
        maps.0.first()?.extension.map.get("Pss").copied()
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used)]
        use super::*;

        #[test]
        fn a_child_is_seen_and_this_process_is_not() {
            let mut child = std::process::Command::new("cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let child_itself = Process::new(child.id().cast_signed()).unwrap();
            assert!(proportional(&child_itself).unwrap() > 0);
            let here = Process::myself().unwrap();
            assert!(held_below(here.pid()) >= proportional(&child_itself).unwrap());
            drop(child.stdin.take());
            child.wait().unwrap();
            assert_eq!(held_below(child.id().cast_signed()), 0);
        }
    }
}
