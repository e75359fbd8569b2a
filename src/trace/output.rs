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
        // Opening a named pipe would block, and what is written is written over later.
        if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut output = Output {
            path: path.to_owned(),
            file,
            next_event: 0,
            error: None,
        };
        match output.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                output.error = Some(io::Error::other("another cargo is writing to it"));
                return Ok(output);
            }
            // A file system without locks: no other process can be noticed.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(e),
        }
        output.file.set_len(0)?;
        output.write(b"[\n]\n", 1)?;
        Ok(output)
    }

    pub fn append(&mut self, event: &impl Serialize) {
        if self.error.is_some() {
            return;
        }
        let is_first = self.next_event == 1;
        let separator: &[u8] = if is_first { b"\n" } else { b",\n" };
        let mut text = separator.to_vec();
        let written = serde_json::to_writer(&mut text, event)
            .map_err(io::Error::from)
            .and_then(|()| {
                let event_len = text.len();
                text.extend_from_slice(b"\n]\n");
                self.write(&text, event_len as u64)
            });
        self.error = written.err();
    }

    /// Writes the end of the array after the last event again, where a full disk has let only the
    /// beginning of another one be written. It was there, so there is room for it.
    fn close(&mut self) -> io::Result<()> {
        const END: &[u8] = b"\n]\n";
        self.file.seek(SeekFrom::Start(self.next_event))?;
        self.file.write_all(END)?;
        self.file.set_len(self.next_event + END.len() as u64)
    }

    /// Writes `text` over the end of the file. Its first `event_len` bytes stay.
    fn write(&mut self, text: &[u8], event_len: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.next_event))?;
        if let Err(e) = self.file.write_all(text) {
            self.close()?;
            return Err(e);
        }
        self.next_event += event_len;
        Ok(())
    }
}
