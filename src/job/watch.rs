//! Notices metadata of which the compiler does not notify. Linux only; elsewhere nothing is noticed.
//!
//! rustc writes metadata to a directory of its own, beside its outputs. If it was asked for metadata, it renames
//! the file into place and notifies; otherwise it maps the file into its memory, and copies it from there into
//! the rlib when all code is generated (`encode_and_write_metadata` in
//! `compiler/rustc_metadata/src/fs.rs`).
//!
//! # Renamed
//!
//! A wrapper that holds back what rustc prints, as caches do, also holds back the
//! [notification](super::notification). But the file is there all the same. One that is renamed is complete, so it
//! may be taken for the notification.
//!
//! Only a rename counts (inotify(7), `IN_MOVED_TO`), and only after the job has asked for it, before its
//! compiler starts. What was there before, or is written, copied or linked there, is not noticed, because it may be
//! incomplete; then dependents start when the job ends.
//!
//! sccache runs rustc for the same directory, and renames what it has in its cache, file by file and in any order
//! (`extract_objects` in its `src/cache/cache_io.rs`); where it cannot create a file beside the place, it writes
//! in place. kache links or clones (`link_to_target` in its `crates/kache-store/src/link.rs`), and a script
//! may `cp`.
//!
//! # Mapped
//!
//! A library that is also a `cdylib` or `staticlib` is compiled without asking for metadata: to ask for it would
//! change the hash of the crate. Several compilers may write to one directory, each to `rmeta??????/full.rmeta`.
//! Which of them is whose, the kernel knows: it is the metadata of the process that has it mapped or is about to,
//! and then it is complete. So whenever such a file is opened, it is looked for among those that the expected
//! compiler reads. One that is the child of a script is not found.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::channel::lock;
use crate::pause::Handle;

type Notice = Box<dyn FnOnce() + Send>;
type FileNotice = Box<dyn FnOnce(&Path) + Send>;

const FILE: &str = "full.rmeta";

/// Watches the directories into which the compilers of a build write.
///
/// Dropping it waits for a notice that is being given; there is none afterwards.
pub struct MetadataWatch {
    watch: Arc<Watch>,
    /// The thread, and what keeps it running.
    thread: Option<(PipeWriter, JoinHandle<()>)>,
}

struct Watch {
    inotify: OwnedFd,
    /// What is to be renamed, by directory and file name.
    renamed: Mutex<HashMap<(i32, OsString), Notice>>,
    mapped: Mutex<Mapped>,
}

/// Who is expected to map metadata.
#[derive(Default)]
struct Mapped {
    expected: Vec<(Handle, FileNotice)>,
    /// The directories in which compilers make theirs, and these.
    dirs: BTreeMap<i32, PathBuf>,
}

impl MetadataWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// If the user has too many such watches (`fs.inotify.max_user_instances`), or if there are no descriptors
    /// or threads left.
    pub fn new() -> io::Result<Self> {
        let watch = Arc::new(Watch {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            renamed: Mutex::default(),
            mapped: Mutex::default(),
        });
        let (closed, is_open) = io::pipe()?;
        let read = Arc::clone(&watch);
        // An error means that nothing is noticed from then on.
        let run = move || _ = read.run(&closed);
        let thread = thread::Builder::new().name("metadata".into()).spawn(run)?;
        Ok(MetadataWatch {
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
    pub fn expect_renamed(
        &self,
        path: &Path,
        notice: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Before the first event can be taken.
        let mut renamed = lock(&self.watch.renamed);
        let dir = self.watch.add(dir, WatchFlags::MOVED_TO)?;
        renamed.insert((dir, name.to_owned()), Box::new(notice));
        Ok(())
    }

    /// Calls `notice` on another thread with the file of the metadata that `process`, which is started after this,
    /// has written below the directory `dir`. The file is removed when the process ends. `dir` must exist.
    ///
    /// # Errors
    ///
    /// If the directory cannot be watched.
    pub fn expect_mapped(
        &self,
        dir: &Path,
        process: Handle,
        notice: impl FnOnce(&Path) + Send + 'static,
    ) -> io::Result<()> {
        // As the kernel names what is mapped.
        let dir = dir.canonicalize()?;
        let mut mapped = lock(&self.watch.mapped);
        let id = self.watch.add(&dir, WatchFlags::CREATE)?;
        mapped.dirs.insert(id, dir);
        mapped.expected.push((process, Box::new(notice)));
        Ok(())
    }
}

impl Drop for MetadataWatch {
    fn drop(&mut self) {
        if let Some((is_open, thread)) = self.thread.take() {
            drop(is_open);
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for MetadataWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataWatch")
    }
}

impl Watch {
    fn add(&self, dir: &Path, what: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(
            &self.inotify,
            dir,
            what | WatchFlags::MASK_ADD,
        )?)
    }

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
        let name = OsStr::from_bytes(name.to_bytes());
        let events = event.events();
        if events.contains(ReadFlags::MOVED_TO) {
            let notice = lock(&self.renamed).remove(&(event.wd(), name.to_owned()));
            if let Some(notice) = notice {
                notice();
            }
        } else if events.contains(ReadFlags::CREATE | ReadFlags::ISDIR) {
            self.dir_made(event.wd(), name);
        } else if events.contains(ReadFlags::OPEN) {
            self.file_opened(event.wd());
        }
    }

    /// A compiler may have made a directory for its metadata.
    fn dir_made(&self, parent: i32, name: &OsStr) {
        let mut mapped = lock(&self.mapped);
        if mapped.expected.is_empty() || !name.as_bytes().starts_with(b"rmeta") {
            return;
        }
        let Some(dir) = mapped.dirs.get(&parent).map(|dir| dir.join(name)) else {
            return;
        };
        // Otherwise the compiler has ended.
        if let Ok(id) = self.add(&dir, WatchFlags::OPEN) {
            mapped.dirs.insert(id, dir);
            drop(mapped);
            // It may have been opened already.
            self.file_opened(id);
        }
    }

    /// The compiler that has made a directory may be reading its metadata.
    fn file_opened(&self, dir: i32) {
        let mut mapped = lock(&self.mapped);
        let Some(file) = mapped.dirs.get(&dir).map(|dir| dir.join(FILE)) else {
            return;
        };
        let is_reader = |(process, _): &(Handle, _)| process.reads(&file);
        if let Some(at) = mapped.expected.iter().position(is_reader) {
            let (_, notice) = mapped.expected.swap_remove(at);
            mapped.dirs.remove(&dir);
            drop(mapped);
            notice(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    use cargo_util::ProcessBuilder;

    use crate::process::{self, Control};

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
        let watch = MetadataWatch::new().unwrap();
        let (sender, noticed) = mpsc::channel();
        for path in [&first, &last] {
            let (sender, name) = (sender.clone(), path.clone());
            watch
                .expect_renamed(path, move || _ = sender.send(name))
                .unwrap();
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

    /// As rustc writes it, and what is in the rlib afterwards. The linker waits until it was noticed.
    #[test]
    fn metadata_of_one_of_two_compilers() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("out")).unwrap();
        let linker = "#!/bin/sh\nread line <noticed\nexec cc \"$@\"\n";
        fs::write(path("cc"), linker).unwrap();
        fs::set_permissions(path("cc"), fs::Permissions::from_mode(0o700)).unwrap();
        let watch = MetadataWatch::new().unwrap();
        let (sender, noticed) = mpsc::channel();
        let run = |name: &'static str, linker: &str, handle: Option<Handle>| {
            fs::write(path(name), format!("pub fn {name}() {{}}")).unwrap();
            let mut rustc = ProcessBuilder::new("rustc");
            rustc.cwd(dir.path()).args(&[
                name,
                "--crate-type=rlib",
                "--crate-type=cdylib",
                "--out-dir=out",
                &format!("-Clinker={linker}"),
            ]);
            let control = Control {
                handle,
                inherited: None,
            };
            process::exec(&rustc, control, &mut |_| Ok(()), &mut |_| Ok(())).unwrap();
        };
        let fifo = std::process::Command::new("mkfifo")
            .arg(path("noticed"))
            .status();
        assert!(fifo.unwrap().success());
        let handle = Handle::default();
        let notice = move |file: &Path| sender.send(fs::read(file)).unwrap();
        watch
            .expect_mapped(&path("out"), handle.clone(), notice)
            .unwrap();
        thread::scope(|scope| {
            scope.spawn(|| run("other", "cc", None));
            let expected = scope.spawn(|| run("expected", "./cc", Some(handle)));
            let metadata = noticed.recv_timeout(LONG).unwrap().unwrap();
            fs::write(path("noticed"), "\n").unwrap();
            expected.join().unwrap();
            let rlib = fs::read(path("out/libexpected.rlib")).unwrap();
            assert!(rlib.windows(metadata.len()).any(|it| it == metadata));
        });
    }

    #[test]
    fn nothing_is_noticed_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("liba.rmeta");
        let (sender, noticed) = mpsc::channel::<()>();
        let watch = MetadataWatch::new().unwrap();
        watch.expect_renamed(&path, move || drop(sender)).unwrap();
        drop(watch);
        // The thread has ended, and what it held is gone.
        assert_eq!(
            noticed.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn no_such_directory() {
        let dir = tempfile::tempdir().unwrap();
        let watch = MetadataWatch::new().unwrap();
        watch
            .expect_renamed(&dir.path().join("no/liba.rmeta"), || ())
            .unwrap_err();
    }
}
