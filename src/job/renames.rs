//! Notices metadata that a compiler renames into place. Linux only; elsewhere nothing is noticed.
//!
//! A wrapper that holds back what rustc prints, as caches do, also holds back the
//! [notification](super::notification) that metadata is written. But the file is there all the same: rustc writes
//! it in a directory of its own and renames it, right before it would notify (`encode_and_write_metadata` in
//! `compiler/rustc_metadata/src/fs.rs`). A file that is renamed is complete, so it may be taken for the
//! notification.
//!
//! Only a rename counts (inotify(7), `IN_MOVED_TO`), and only after the job has asked for it, before its
//! compiler starts. What was there before, or is written, copied or linked there, is not noticed, because it may be
//! incomplete; then dependents start when the job ends.
//!
//! sccache runs rustc for the same directory, and renames what it has in its cache, file by file and in any order
//! (`extract_objects` in its `src/cache/cache_io.rs`); where it cannot create a file beside the place, it writes
//! in place. kache links or clones (`link_to_target` in its `crates/kache-store/src/link.rs`), and a script
//! may `cp`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::channel::lock;

type Notice = Box<dyn FnOnce() + Send>;

/// Watches the directories into which the compilers of a build write.
///
/// Dropping it waits for a notice that is being given; there is none afterwards.
pub struct Renames {
    watch: Arc<Watch>,
    /// The thread, and what keeps it running.
    thread: Option<(PipeWriter, JoinHandle<()>)>,
}

struct Watch {
    inotify: OwnedFd,
    /// By directory and file name.
    expected: Mutex<HashMap<(i32, OsString), Notice>>,
}

impl Renames {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// If the user has too many such watches (`fs.inotify.max_user_instances`), or if there are no descriptors
    /// or threads left.
    pub fn new() -> io::Result<Self> {
        let watch = Arc::new(Watch {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            expected: Mutex::default(),
        });
        let (closed, is_open) = io::pipe()?;
        let read = Arc::clone(&watch);
        // An error means that nothing is noticed from then on.
        let run = move || _ = read.run(&closed);
        let thread = thread::Builder::new().name("renames".into()).spawn(run)?;
        Ok(Renames {
            watch,
            thread: Some((is_open, thread)),
        })
    }

    /// Calls `notice` on another thread when a file is renamed to `path`, for the first time from now on. The
    /// directory must exist.
    ///
    /// # Errors
    ///
    /// If the directory cannot be watched.
    pub fn expect(&self, path: &Path, notice: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Before the first event can be taken.
        let mut expected = lock(&self.watch.expected);
        let dir = inotify::add_watch(&self.watch.inotify, dir, WatchFlags::MOVED_TO)?;
        expected.insert((dir, name.to_owned()), Box::new(notice));
        Ok(())
    }
}

impl Drop for Renames {
    fn drop(&mut self) {
        if let Some((is_open, thread)) = self.thread.take() {
            drop(is_open);
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Renames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renames")
    }
}

impl Watch {
    /// Passes events on until `closed` has no other end.
    fn run(&self, closed: &PipeReader) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let mut ready = [
                PollFd::new(&self.inotify, PollFlags::IN),
                PollFd::new(closed, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            if !ready[1].revents().is_empty() {
                return Ok(());
            }
            loop {
                match events.next() {
                    Ok(event) => self.take(&event),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }

    fn take(&self, event: &inotify::Event<'_>) {
        let Some(name) = event.file_name() else {
            return;
        };
        if !event.events().contains(ReadFlags::MOVED_TO) {
            return;
        }
        let key = (event.wd(), OsStr::from_bytes(name.to_bytes()).to_owned());
        let notice = lock(&self.expected).remove(&key);
        if let Some(notice) = notice {
            notice();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_first_rename_from_now_on() {
        let dir = tempfile::tempdir().unwrap();
        let [beside, other] = ["beside", "liba.rlib"].map(|name| dir.path().join(name));
        let [first, last] = ["liba.rmeta", "libb.rmeta"].map(|name| dir.path().join(name));
        let rename = |to: &Path| {
            fs::write(&beside, "").unwrap();
            fs::rename(&beside, to).unwrap();
        };
        rename(&first);
        let renames = Renames::new().unwrap();
        let (sender, noticed) = mpsc::channel();
        for path in [&first, &last] {
            let (sender, name) = (sender.clone(), path.clone());
            renames.expect(path, move || _ = sender.send(name)).unwrap();
        }
        drop(sender);
        fs::write(&first, "in place").unwrap();
        fs::remove_file(&first).unwrap();
        fs::hard_link(dir.path().join("liba.rlib"), &first).unwrap_err();
        fs::write(&beside, "").unwrap();
        fs::hard_link(&beside, &first).unwrap();
        rename(&other);
        rename(&last);
        rename(&first);
        rename(&first);
        assert_eq!(noticed.recv_timeout(LONG).unwrap(), last);
        assert_eq!(noticed.recv_timeout(LONG).unwrap(), first);
        // All has been noticed that ever will be.
        assert_eq!(
            noticed.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn nothing_is_noticed_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("liba.rmeta");
        let (sender, noticed) = mpsc::channel::<()>();
        let renames = Renames::new().unwrap();
        renames.expect(&path, move || drop(sender)).unwrap();
        drop(renames);
        // The thread has ended, and what it held is gone.
        assert_eq!(
            noticed.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn no_such_directory() {
        let dir = tempfile::tempdir().unwrap();
        let renames = Renames::new().unwrap();
        renames
            .expect(&dir.path().join("no/liba.rmeta"), || ())
            .unwrap_err();
    }
}
