//! Digests of files and values.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A BLAKE3 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub(super) blake3::Hash);

impl Digest {
    /// Hashes the content of a file. Reads all of it.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Digest::of_reader(File::open(path)?)
    }

    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub(super) fn of_reader(reader: impl io::Read) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        Ok(Digest(hasher.update_reader(reader)?.finalize()))
    }

    /// Hashes a value with its [`Hash`] implementation. The result depends on the platform.
    pub fn of_value(value: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = ValueHasher(blake3::Hasher::new());
        value.hash(&mut hasher);
        Digest(hasher.0.finalize())
    }
}

impl TryFrom<String> for Digest {
    type Error = blake3::HexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        blake3::Hash::from_hex(text).map(Digest)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.to_string()
    }
}

struct ValueHasher(blake3::Hasher);

impl Hasher for ValueHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes()
            .first_chunk()
            .map_or(0, |it| u64::from_le_bytes(*it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let digest = Digest::of_value("text");
        let text = String::from(digest);
        assert_eq!(Digest::try_from(text.clone()).ok(), Some(digest));
        assert!(Digest::try_from(text[1..].to_owned()).is_err());
        assert!(Digest::try_from("not a digest".to_owned()).is_err());
    }

    #[test]
    fn missing_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Digest::of_file(&dir.path().join("missing")).is_err());
    }
}
