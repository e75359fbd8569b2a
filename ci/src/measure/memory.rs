//! The memory that the children of this process hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use procfs::process::{Process, all_processes};

/// The kernel does not count the memory of a tree of processes, so it is sampled.
const INTERVAL: Duration = Duration::from_millis(50);

/// Runs `work`, and returns also the most memory that all processes below this one held together
/// meanwhile, in bytes.
///
/// Shared memory (the compiler's own code) counts once: each process has its proportional share, `Pss`
/// of proc_pid_smaps(5). That takes the kernel long, so what is timed should not be sampled.
pub fn peak_during<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(held_below(std::process::id().cast_signed()));
                thread::sleep(INTERVAL);
            }
            peak
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        (outcome, sampler.join().unwrap_or(0))
    })
}

fn held_below(root: i32) -> u64 {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    // What has ended meanwhile holds nothing.
    for process in all_processes().into_iter().flatten().flatten() {
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
fn children_are_counted() {
    let mut child = std::process::Command::new("sleep");
    let (status, peak) = peak_during(|| child.arg("0.2").status());
    assert!(status.is_ok_and(|status| status.success()) && peak > 0);
}
