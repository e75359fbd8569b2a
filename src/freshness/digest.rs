//! Digests of files and values.

use std::fmt;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; blake3::OUT_LEN]);

impl Digest {
    /// Hashes the content of a file. Reads all of it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.into())
    }

    /// Hashes a value with its [`Hash`] implementation. The result depends on the platform.
    pub fn of_value(value: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = ValueHasher(blake3::Hasher::new());
        value.hash(&mut hasher);
        hasher.0.into()
    }

    /// Combines digests, in this order, for one purpose. The same digests give another result for
    /// another purpose.
    pub fn chain(purpose: &str, links: impl IntoIterator<Item = Digest>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        for link in links {
            hasher.update(&link.0);
        }
        hasher.into()
    }
}

impl From<blake3::Hasher> for Digest {
    fn from(hasher: blake3::Hasher) -> Self {
        Digest(hasher.finalize().into())
    }
}

impl TryFrom<String> for Digest {
    type Error = blake3::HexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        blake3::Hash::from_hex(text).map(|hash| Digest(hash.into()))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.to_string()[..8])
    }
}

struct ValueHasher(blake3::Hasher);

impl Hasher for ValueHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Only the first bytes of the digest, which no caller here needs.
    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes()[..8]
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let digest = Digest::of_value("text");
        let text = digest.to_string();
        assert_eq!(Digest::try_from(text.clone()).ok(), Some(digest));
        assert!(Digest::try_from(text[1..].to_owned()).is_err());
        assert!(Digest::try_from("not a digest".to_owned()).is_err());
    }

    #[test]
    fn purpose_is_part_of_a_chain() {
        let links = [Digest::of_value(&1), Digest::of_value(&2)];
        assert_ne!(Digest::chain("a", links), Digest::chain("b", links));
        assert_ne!(Digest::chain("a", links), Digest::chain("a", [links[0]]));
        assert_eq!(Digest::chain("a", links), Digest::chain("a", links));
    }

    #[test]
    fn missing_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Digest::of_file(&dir.path().join("missing")).is_err());
    }
}
