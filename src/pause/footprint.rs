//! How much memory a process holds.

use rustix::process::Pid;

/// How many bytes would be free if the process were not there. `None` if that cannot be known.
///
/// On Linux these are its anonymous pages, in memory or swapped out: what rustc has allocated. Of what
/// else is resident, rustc's own libraries and the crates that it has mapped, nearly all is shared
/// with the next rustc, and given up when memory is short. Linux counts them apart since 4.5, in
/// `/proc/PID/status` (proc_pid_status(5)), and only adds up counters to tell it; `smaps_rollup`, which
/// tells it exactly, walks all pages. It does not block.
///
/// Elsewhere it is all that is resident, as ps(1) says it, and blocks until that has run.
pub(super) fn of(process: Pid) -> Option<u64> {
    ask(process)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask(process: Pid) -> Option<u64> {
    let status = std::fs::read(format!("/proc/{}/status", process.as_raw_pid())).ok()?;
    // The name of the process, on the first line, may be anything.
    anonymous(&String::from_utf8_lossy(&status))
}

#[cfg(any(target_os = "linux", target_os = "android", test))]
fn anonymous(status: &str) -> Option<u64> {
    let [resident, swapped] =
        ["RssAnon:", "VmSwap:"].map(|name| crate::memory::kib_field(status, name));
    // A kernel without swap does not count it.
    resident?.checked_add(swapped.unwrap_or(0))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ask(process: Pid) -> Option<u64> {
    let ps = std::process::Command::new("ps")
        .args(["-o", "rss=", "-p", &process.as_raw_pid().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    resident(&String::from_utf8_lossy(&ps.stdout))
}

/// Reads the only number that there is, in units of 1024 bytes.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), test))]
fn resident(ps: &str) -> Option<u64> {
    ps.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let myself = rustix::process::getpid();
        let before = of(myself).unwrap();
        let written = vec![1_u8; 64 << 20];
        let after = of(myself).unwrap();
        assert!(written.iter().all(|byte| *byte == 1));
        // Other tests may free some meanwhile.
        assert!(after > before + (32 << 20), "{before} {after}");
    }

    #[test]
    fn what_linux_says() {
        let status =
            "Name:\tRssAnon: 7\nVmRSS:\t  300 kB\nRssAnon:\t  100 kB\nRssFile:\t  200 kB\n";
        assert_eq!(anonymous(status), Some(100 * 1024));
        let swapped = format!("{status}VmSwap:\t 50 kB\n");
        assert_eq!(anonymous(&swapped), Some(150 * 1024));
        // One that has ended has no memory to tell of.
        assert_eq!(anonymous("Name:\trustc\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn what_ps_says() {
        assert_eq!(resident("  2048\n"), Some(2 << 20));
        assert_eq!(resident(""), None);
    }
}
