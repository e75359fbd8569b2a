//! How many more files this process may open.

/// Descriptors that a job with a compiler needs for a moment at most: its pipes, and those of the
/// start of its process.
const PER_JOB: u64 = 6;
/// Descriptors for anything else.
const OTHERS: u64 = 16;

/// Whether there are descriptors for a full set of `jobs`, and so for one more compiler that holds no
/// job slot. True where that is not known. Reads a directory of the kernel; it does not block.
pub fn allow_one_more(jobs: usize) -> bool {
    let jobs = u64::try_from(jobs).unwrap_or(u64::MAX);
    free().is_none_or(|free| free > jobs.saturating_mul(PER_JOB).saturating_add(OTHERS))
}

#[cfg(unix)]
fn free() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current?;
    let open = std::fs::read_dir("/dev/fd").ok()?.count();
    Some(limit.saturating_sub(u64::try_from(open).ok()?))
}

#[cfg(not(unix))]
fn free() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn open_files_count() {
        // Other tests open and close files, but not hundreds.
        let before = free().unwrap();
        let files: Vec<_> = (0..300).map(|_| tempfile::tempfile().unwrap()).collect();
        assert!(free().unwrap() + 100 < before);
        drop(files);
    }

    #[test]
    fn many_jobs_need_many_descriptors() {
        assert!(!allow_one_more(usize::MAX) || cfg!(not(unix)));
    }
}
