//! Digests of what units make.

use std::fmt;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Component, Path};

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; blake3::OUT_LEN]);

impl Digest {
    /// The digest of the content of a file. Reads all of it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.into())
    }

    /// The digest of the names and contents of all that is in a directory, or `None` if something in it
    /// stands for a content that is elsewhere: a link that leads out of its directory, a socket.
    ///
    /// # Errors
    ///
    /// If something cannot be read.
    pub fn of_tree(dir: &Path) -> io::Result<Option<Self>> {
        let mut hasher = blake3::Hasher::new();
        let is_whole = hash_tree(dir, &mut hasher)?;
        Ok(is_whole.then(|| hasher.into()))
    }

    /// The digest of a value, as it hashes itself. It is the same only on the same kind of machine.
    pub fn of_value(value: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = ValueHasher(blake3::Hasher::new());
        value.hash(&mut hasher);
        hasher.0.into()
    }

    /// The digest of some digests in this order, for one purpose: the same digests for another purpose
    /// make another one.
    pub fn chain(purpose: &str, links: impl IntoIterator<Item = Digest>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        for link in links {
            hasher.update(&link.0);
        }
        hasher.into()
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let hash = blake3::Hash::from_hex(text).ok()?;
        Some(Digest(hash.into()))
    }
}

impl From<blake3::Hasher> for Digest {
    fn from(hasher: blake3::Hasher) -> Self {
        Digest(hasher.finalize().into())
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

    /// Whoever asks for this does not get the digest.
    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes()[..8]
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
}

/// Names are preceded by their length, and directories end with a mark, so no two trees look the same.
fn hash_tree(dir: &Path, hasher: &mut blake3::Hasher) -> io::Result<bool> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            hasher.update(b"d");
            if !hash_tree(&path, hasher)? {
                return Ok(false);
            }
        } else if kind.is_file() {
            hasher.update(b"f");
            hasher.update(&Digest::of_file(&path)?.0);
        } else if kind.is_symlink() {
            let to = fs::read_link(&path)?;
            let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
            if !to.components().all(stays) {
                return Ok(false);
            }
            let to = to.as_os_str().as_encoded_bytes();
            hasher.update(b"l");
            hasher.update(&(to.len() as u64).to_le_bytes());
            hasher.update(to);
        } else {
            return Ok(false);
        }
    }
    hasher.update(&u64::MAX.to_le_bytes());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, remove_file, rename, write};

    #[test]
    fn it_is_read_as_it_was_written() {
        let digest = Digest::of_value("text");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse(&digest.to_string()[1..]), None);
        assert_eq!(Digest::parse("not a digest"), None);
    }

    #[test]
    fn the_purpose_is_part_of_a_chain() {
        let links = [Digest::of_value(&1), Digest::of_value(&2)];
        assert_ne!(Digest::chain("a", links), Digest::chain("b", links));
        assert_ne!(Digest::chain("a", links), Digest::chain("a", [links[0]]));
        assert_eq!(Digest::chain("a", links), Digest::chain("a", links));
    }

    #[test]
    fn whatever_changes_in_a_tree() {
        let dir = tempfile::tempdir().unwrap();
        let of = || Digest::of_tree(dir.path()).unwrap().unwrap();
        let mut seen = vec![of()];
        let mut check = |change: &dyn Fn()| {
            change();
            let now = of();
            assert!(!seen.contains(&now), "after {} changes", seen.len());
            seen.push(now);
        };
        let at = |name: &str| dir.path().join(name);
        check(&|| write(at("a"), "").unwrap());
        check(&|| write(at("a"), "text").unwrap());
        check(&|| rename(at("a"), at("b")).unwrap());
        check(&|| create_dir(at("d")).unwrap());
        check(&|| rename(at("b"), at("d/b")).unwrap());
        check(&|| write(at("d/c"), "text").unwrap());
        check(&|| rename(at("d/c"), at("c")).unwrap());
        check(&|| remove_file(at("c")).and(write(at("d/b"), "")).unwrap());

        write(at("d/b"), "text").unwrap();
        write(at("c"), "text").unwrap();
        assert!(seen.contains(&of()), "times and inodes do not count");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_counts_if_it_leads_nowhere_else() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        symlink("lib.so.1", dir.path().join("lib.so")).unwrap();
        let one = Digest::of_tree(dir.path()).unwrap();
        assert!(one.is_some());
        remove_file(dir.path().join("lib.so")).unwrap();
        symlink("lib.so.2", dir.path().join("lib.so")).unwrap();
        assert_ne!(Digest::of_tree(dir.path()).unwrap(), one);
        symlink("../elsewhere", dir.path().join("out")).unwrap();
        assert_eq!(Digest::of_tree(dir.path()).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Digest::of_file(&dir.path().join("missing")).is_err());
        assert!(Digest::of_tree(&dir.path().join("missing")).is_err());
    }
}
