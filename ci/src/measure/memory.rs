//! The memory that the children of this process hold.

#[cfg(target_os = "linux")]
pub use linux::Sampler;

/// Samples memory where that is possible.
#[cfg(not(target_os = "linux"))]
pub enum Sampler {}

#[cfg(not(target_os = "linux"))]
impl Sampler {
    /// Fails.
    pub fn start() -> anyhow::Result<Self> {
        anyhow::bail!("how much memory a build holds can only be measured on Linux")
    }

    /// Cannot be reached.
    pub fn peak(self) -> u64 {
        match self {}
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::sync::mpsc::{self, RecvTimeoutError, Sender};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use anyhow::{Context, Result};
    use procfs::process::{self, Process};

    /// The kernel does not count the memory of a tree of processes, so it is sampled.
    const INTERVAL: Duration = Duration::from_millis(50);

    /// Samples the memory of all processes below this one.
    ///
    /// Shared memory (the compiler's own code) counts once: each process has its proportional share,
    /// `Pss` of proc_pid_smaps(5). That takes the kernel long, so what is timed should not be sampled.
    pub struct Sampler {
        stop: Sender<()>,
        thread: JoinHandle<u64>,
    }

    impl Sampler {
        /// Starts.
        pub fn start() -> Result<Self> {
            let root = Process::myself().context("could not read /proc/self")?.pid;
            let (stop, stopped) = mpsc::channel();
            let thread = thread::spawn(move || {
                let mut peak = 0;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                    peak = peak.max(held_below(root));
                }
                peak
            });
            Ok(Sampler { stop, thread })
        }

        /// Stops, and returns the most that they held together, in bytes.
        pub fn peak(self) -> u64 {
            drop(self.stop);
            self.thread.join().unwrap_or(0)
        }
    }

    fn held_below(root: i32) -> u64 {
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        // What has ended meanwhile holds nothing.
        for process in process::all_processes().into_iter().flatten().flatten() {
            if let Ok(stat) = process.stat() {
                children.entry(stat.ppid).or_default().push(process);
            }
        }
        let mut held = 0;
        let mut unvisited = children.remove(&root).unwrap_or_default();
        while let Some(process) = unvisited.pop() {
            unvisited.extend(children.remove(&process.pid).unwrap_or_default());
            held += proportional(&process).unwrap_or(0);
        }
        held
    }

    fn proportional(process: &Process) -> Option<u64> {
        let maps = process.smaps_rollup().ok()?.memory_map_rollup;
        maps.0.first()?.extension.map.get("Pss").copied()
    }

    #[test]
    fn only_children_are_counted() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let pid = child.id().cast_signed();
        let process = Process::new(pid).expect("the child runs");
        assert!(proportional(&process) > Some(0));
        assert!(
            held_below(std::process::id().cast_signed()) >= proportional(&process).unwrap_or(0)
        );
        assert_eq!(held_below(pid), 0);
        child.kill().expect("the child runs");
        child.wait().expect("the child ends");
    }
}
