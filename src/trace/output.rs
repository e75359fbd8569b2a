//! The file of a trace.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The file, and where in it the next event goes: over the bracket at its end.
#[derive(Debug)]
pub(super) struct Output {
    pub path: PathBuf,
    file: File,
    next_event: u64,
    /// The first error in writing. After it nothing is written.
    pub error: Option<io::Error>,
}

impl Output {
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Opening a named pipe would block, and a device cannot be rewritten.
        if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let error = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Some(io::Error::other("another cargo is writing to it"))
            }
            Err(TryLockError::Error(e)) if e.kind() != io::ErrorKind::Unsupported => {
                return Err(e);
            }
            // A file system without locks: no other process can be noticed.
            Err(TryLockError::Error(_)) | Ok(()) => None,
        };
        let mut output = Output {
            path: path.to_owned(),
            file,
            next_event: 0,
            error,
        };
        if output.error.is_none() {
            output.file.set_len(0)?;
            output.write(b"[".to_vec())?;
        }
        Ok(output)
    }

    pub fn append(&mut self, event: &impl Serialize) {
        if self.error.is_some() {
            return;
        }
        let is_first = self.next_event == 1;
        let mut text = if is_first { "\n" } else { ",\n" }.as_bytes().to_vec();
        let written = serde_json::to_writer(&mut text, event)
            .map_err(io::Error::from)
            .and_then(|()| self.write(text));
        self.error = written.err();
    }

    /// Writes `text` over the end of the array, and the end again. On a full disk it writes only the end,
    /// which was there, so there is room for it.
    fn write(&mut self, mut text: Vec<u8>) -> io::Result<()> {
        const END: &[u8] = b"\n]\n";
        let begin = self.next_event;
        let next_event = begin + text.len() as u64;
        text.extend_from_slice(END);
        self.file.seek(SeekFrom::Start(begin))?;
        if let Err(e) = self.file.write_all(&text) {
            self.file.seek(SeekFrom::Start(begin))?;
            self.file.write_all(END)?;
            self.file.set_len(begin + END.len() as u64)?;
            return Err(e);
        }
        self.next_event = next_event;
        Ok(())
    }
}
