//! How much memory there is for this process, and how much of it is available.
//!
//! Several things bound it at once: the machine, and each control group that the process is in, directly
//! or through one above. Linux tells all of them, in files that do not block; other systems tell nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

type Read = Box<dyn Fn(&Path) -> io::Result<String> + Send + Sync>;

/// Returns how many bytes are available to this process before something has to be swapped out or
/// killed. `None` if that is not known, as on other systems than Linux.
pub fn available() -> Option<u64> {
    Bounds::of_this_process().available()
}

/// What bounds the memory of a process.
pub(crate) struct Bounds {
    /// The directories of its control groups, from its own up to the root of those that can be seen.
    groups: Vec<PathBuf>,
    read: Read,
}

/// One of the bounds. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub available: u64,
    pub all: u64,
}

impl Bounds {
    pub fn of_this_process() -> Self {
        Bounds::reading(Box::new(|path| std::fs::read_to_string(path)))
    }

    /// `read` has the text of a file.
    fn reading(read: Read) -> Self {
        let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let groups = groups(&own).collect();
        Bounds { groups, read }
    }

    /// Returns the bounds as they are now: the machine's, and that of each control group that has one.
    /// Leaves out those that are not known.
    pub fn now(&self) -> impl Iterator<Item = Bound> {
        let groups = self.groups.iter().filter_map(|dir| self.group(dir));
        self.machine().into_iter().chain(groups)
    }

    fn available(&self) -> Option<u64> {
        self.now().map(|bound| bound.available).min()
    }

    /// Reads `/proc/meminfo` (proc_meminfo(5)).
    fn machine(&self) -> Option<Bound> {
        let meminfo = (self.read)(Path::new("/proc/meminfo")).ok()?;
        Some(Bound {
            available: kib_field(&meminfo, "MemAvailable:")?,
            all: kib_field(&meminfo, "MemTotal:")?,
        })
    }

    /// Reads the files of a control group, called as in version 2 (the kernel's
    /// `Documentation/admin-guide/cgroup-v2.rst`) or in version 1 (`cgroup-v1/memory.rst` there).
    fn group(&self, dir: &Path) -> Option<Bound> {
        let read = |name| (self.read)(&dir.join(name)).ok();
        let (all, used, reclaimable) = if let Some(limit) = read("memory.max") {
            (limit, read("memory.current")?, "inactive_file")
        } else {
            let limit = read("memory.limit_in_bytes")?;
            (limit, read("memory.usage_in_bytes")?, "total_inactive_file")
        };
        // Where there is no limit, it is the word "max", or more than any machine has.
        let all: u64 = all.trim().parse().ok()?;
        let used: u64 = used.trim().parse().ok()?;
        // The kernel gives it up first.
        let reclaimable = field(&read("memory.stat")?, reclaimable)?;
        Some(Bound {
            available: all.saturating_sub(used.saturating_sub(reclaimable)),
            all,
        })
    }
}

impl fmt::Debug for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounds").finish_non_exhaustive()
    }
}

/// Returns how many bytes a process holds alone, by its `/proc/PID/status` (proc_pid_status(5), Linux 4.5): its
/// anonymous pages, in memory or swapped out. `None` if it has ended.
pub fn anonymous(status: &str) -> Option<u64> {
    let [resident, swapped] = ["RssAnon:", "VmSwap:"].map(|name| kib_field(status, name));
    // A kernel without swap does not count it.
    resident?.checked_add(swapped.unwrap_or(0))
}

/// Reads the number after a name at the beginning of a line, where it counts what `/proc` calls kB.
/// Returns bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

/// Reads the number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut line| (line.next()? == name).then_some(line))?;
    line.next()?.parse().ok()
}

/// Reads from `/proc/self/cgroup` (cgroups(7)) the directories of groups that may bound memory.
fn groups(text: &str) -> impl Iterator<Item = PathBuf> {
    let own = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|it| it == "memory") => "/sys/fs/cgroup/memory",
            _ => return None,
        };
        Some((root, Path::new(path)))
    });
    own.flat_map(|(root, own)| {
        let groups = own.ancestors();
        groups.map(move |group| Path::new(root).join(group.strip_prefix("/").unwrap_or(group)))
    })
}

/// For a system that has these files.
#[cfg(test)]
pub(crate) fn bounds_in(files: &[(&str, &str)]) -> Bounds {
    let files: std::collections::HashMap<PathBuf, String> = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
        .collect();
    Bounds::reading(Box::new(move |path| {
        files
            .get(path)
            .cloned()
            .ok_or(io::ErrorKind::NotFound.into())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory() {
        let status =
            "Name:\tRssAnon: 7\nVmRSS:\t  300 kB\nRssAnon:\t  100 kB\nRssFile:\t  200 kB\n";
        assert_eq!(anonymous(status), Some(100 * 1024));
        let swapped = format!("{status}VmSwap:\t 50 kB\n");
        assert_eq!(anonymous(&swapped), Some(150 * 1024));
        // A process that has ended has no memory.
        assert_eq!(anonymous("Name:\trustc\nState:\tZ (zombie)\n"), None);
    }

    const MEMINFO: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:       16000 kB\nMemFree:          100 kB\nMemAvailable:    4000 kB\n",
    );

    #[test]
    fn damaged_meminfo_is_unknown() {
        assert_eq!(bounds_in(&[]).available(), None);
        for unknown in [
            "",
            "MemTotal: 1 kB",
            "MemTotal: x kB\nMemAvailable: 0 kB",
            "MemTotal: 1 kB\nMemAvailable: 18446744073709551615 kB",
            "\0",
        ] {
            let bounds = bounds_in(&[("/proc/meminfo", unknown)]);
            assert_eq!(bounds.available(), None, "{unknown}");
        }
    }

    #[test]
    fn machine_in_bytes() {
        let bounds = bounds_in(&[MEMINFO]);
        let machine = Bound {
            available: 4000 * 1024,
            all: 16000 * 1024,
        };
        assert_eq!(bounds.now().collect::<Vec<_>>(), [machine]);
    }

    /// The tightest is not always the innermost.
    #[test]
    fn tightest_bound_counts() {
        let bounds = |outer: &str| {
            bounds_in(&[
                MEMINFO,
                ("/proc/self/cgroup", "1:name=x:/y\n0::/user.slice/build\n"),
                ("/sys/fs/cgroup/user.slice/build/memory.max", "2000\n"),
                ("/sys/fs/cgroup/user.slice/build/memory.current", "1100\n"),
                (
                    "/sys/fs/cgroup/user.slice/build/memory.stat",
                    "anon 900\ninactive_file 100\n",
                ),
                ("/sys/fs/cgroup/user.slice/memory.max", outer),
                ("/sys/fs/cgroup/user.slice/memory.current", "1100\n"),
                (
                    "/sys/fs/cgroup/user.slice/memory.stat",
                    "inactive_file 100\n",
                ),
                // The root has no such files.
            ])
        };
        assert_eq!(bounds("max\n").available(), Some(1000));
        assert_eq!(bounds("1600\n").available(), Some(600));
        assert_eq!(bounds("900\n").available(), Some(0));
        assert_eq!(bounds("99999999\n").available(), Some(1000));
    }

    #[test]
    fn control_groups_version_1() {
        let bounds = |limit: &str| {
            bounds_in(&[
                MEMINFO,
                (
                    "/proc/self/cgroup",
                    "9:name=systemd:/\n4:hugetlb,memory:/docker:x\n3:cpuset:/y\n0::/\n",
                ),
                (
                    "/sys/fs/cgroup/memory/docker:x/memory.limit_in_bytes",
                    limit,
                ),
                (
                    "/sys/fs/cgroup/memory/docker:x/memory.usage_in_bytes",
                    "1100\n",
                ),
                (
                    "/sys/fs/cgroup/memory/docker:x/memory.stat",
                    "inactive_file 7\ntotal_inactive_file 100\n",
                ),
            ])
        };
        assert_eq!(bounds("2000\n").available(), Some(1000));
        let unlimited = bounds("9223372036854771712\n").available();
        assert_eq!(unlimited, Some(4000 * 1024));
    }

    #[test]
    fn reads_this_machine() {
        assert_eq!(available().is_some(), cfg!(target_os = "linux"));
    }
}
