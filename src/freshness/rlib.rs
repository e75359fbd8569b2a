//! Digests of libraries, without what differs each time that they are made.
//!
//! rustc gives each object a name that no other invocation uses, the part before `.rcgu.o`:
//!
//! ```text
//! liba-b6995eb565e3c2ca.rlib
//!   /                                                                           symbols
//!   lib.rmeta
//!   lib.rmeta-link                                                              names of objects
//!   //                                                                          long names
//!   a-b6995eb565e3c2ca.9lcpasg4se7e133hdfvr5y9bn.1ov3ngu.rcgu.o
//!                                                └─────┘ the invocation
//! ```
//!
//! (`OutputFilenames::temp_path_for_cgu` in `rustc_session`; since 1.89. `lib.rmeta-link` since 1.97,
//! rust-lang/rust#154861.) A linker that writes ELF reads only the contents of objects, so libraries that
//! differ in this name count as the same. On Apple's systems the names get into what is linked, for debuggers,
//! so all bytes count there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::Digest;
use crate::archive;

const METADATA: &str = "lib.rmeta";
const OBJECT_NAMES: &str = "lib.rmeta-link";
const OBJECT: &str = ".rcgu.o";

/// Returns the digest of an output, and whether it is a library that has native code in it.
pub fn digest(path: &Path) -> io::Result<(Digest, bool)> {
    if path.extension().is_none_or(|it| it != "rlib") {
        return Ok((Digest::of_file(path)?, false));
    }
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match of_members(path) {
        // Then its bytes count, and anything may be in it.
        Err(e) if matches!(e.kind(), InvalidData | UnexpectedEof) => {
            Ok((Digest::of_file(path)?, true))
        }
        Ok((_, has_native_code)) if cfg!(target_vendor = "apple") => {
            Ok((Digest::of_file(path)?, has_native_code))
        }
        result => result,
    }
}

/// Returns the digest of all members, in order, and whether there are others than those that rustc makes.
fn of_members(path: &Path) -> io::Result<(Digest, bool)> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let own_objects = format!("{}.", stem.strip_prefix("lib").unwrap_or(&stem));
    let mut file = File::open(path)?;
    let mut object_names = Vec::new();
    let mut invocations = BTreeSet::new();
    let mut has_native_code = false;
    let mut digests = Vec::new();
    let members = archive::members(&mut file)?;
    for (name, range) in members.iter().filter(|(name, _)| !name.starts_with('/')) {
        file.seek(SeekFrom::Start(range.start))?;
        let mut content = (&mut file).take(range.end - range.start);
        if name == OBJECT_NAMES {
            content.read_to_end(&mut object_names)?;
        } else {
            let name_parts = split_object_name(name);
            invocations.extend(name_parts.map(|(_, invocation)| invocation));
            let name_parts = name_parts.map_or((name.as_str(), ""), |(unit, _)| (unit, OBJECT));
            digests.push((name_parts, Digest::of_reader(&mut content)?));
            has_native_code |=
                !(name == METADATA || name.starts_with(&own_objects) && name.ends_with(OBJECT));
        }
        if content.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // Each byte as one character.
    let mut object_names: String = object_names.into_iter().map(char::from).collect();
    for invocation in invocations {
        object_names = object_names.replace(&format!(".{invocation}{OBJECT}"), "\0");
    }
    let digest = Digest::of_value(&(digests, object_names));
    Ok((digest, has_native_code))
}

/// Splits the name of an object into the unit and the invocation.
fn split_object_name(name: &str) -> Option<(&str, &str)> {
    let (unit, invocation) = name.strip_suffix(OBJECT)?.rsplit_once('.')?;
    unit.contains('.').then_some((unit, invocation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::MAGIC;

    /// An archive as rustc writes it.
    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let mut names = String::new();
        let mut bytes = MAGIC.to_vec();
        let mut append = |name: &str, content: &str| {
            let size = content.len();
            bytes.extend(format!("{name:<16}{:<32}{size:<10}`\n{content}", 0).into_bytes());
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        };
        let mut short = Vec::new();
        for (name, _) in members {
            if name.len() < 16 {
                short.push(format!("{name}/"));
            } else {
                short.push(format!("/{}", names.len()));
                names += &format!("{name}/\n");
            }
        }
        append("/", "offsets and symbols");
        append("//", &names);
        for (name, (_, content)) in std::iter::zip(short, members) {
            append(&name, content);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Digest, bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("liba-b6995eb565e3c2ca.rlib");
        std::fs::write(&path, bytes).unwrap();
        super::digest(&path).unwrap()
    }

    fn digest(bytes: &[u8]) -> Digest {
        read(bytes).0
    }

    fn object(unit: &str, invocation: &str) -> String {
        format!("a-b6995eb565e3c2ca.{unit}.{invocation}.rcgu.o")
    }

    #[cfg(not(target_vendor = "apple"))]
    #[test]
    fn invocation_does_not_count() {
        let with = |invocation: &str| {
            let object = object("9lcpasg4se7e133hdfvr5y9bn", invocation);
            let names = format!("\x01,{object}rust-end-file");
            digest(&archive(&[
                ("lib.rmeta", "meta"),
                ("lib.rmeta-link", &names),
                (&object, "code"),
            ]))
        };
        assert_eq!(with("1ov3ngu"), with("0yqsvle"));
    }

    #[test]
    fn native_code_is_noticed() {
        let own = object("one", "1ov3ngu");
        let has_native = |members: &[(&str, &str)]| read(&archive(members)).1;
        assert!(!has_native(&[
            ("lib.rmeta", ""),
            ("lib.rmeta-link", ""),
            (&own, "")
        ]));
        for other in ["foo.o", "libfoo.a", "b-0123.c.0yqsvle.rcgu.o"] {
            assert!(
                has_native(&[("lib.rmeta", ""), (&own, ""), (other, "")]),
                "{other}"
            );
        }
        assert!(read(b"no archive").1);
    }

    #[test]
    fn everything_else_counts() {
        let (one, other) = (object("one", "1ov3ngu"), object("other", "1ov3ngu"));
        let mut seen = Vec::new();
        for members in [
            &[("lib.rmeta", "meta"), (one.as_str(), "code")][..],
            &[("lib.rmeta", "metb"), (&one, "code")],
            &[("lib.rmeta", "meta"), (&one, "codf")],
            &[("lib.rmeta", "meta"), (&other, "code")],
            &[("lib.rmeta", "meta"), (&one, "code"), (&other, "code")],
            &[("lib.rmeta", "meta"), (&other, "code"), (&one, "code")],
            &[("lib.rmetb", "meta"), (&one, "code")],
            &[("lib.rmeta", "meta"), ("x.1ov3ngu.rcgu.o", "code")],
            &[("lib.rmeta", "meta"), ("x.0yqsvle.rcgu.o", "code")],
            &[("lib.rmeta", "meta"), ("foo.o", "code")],
            &[("/named as a table", "code")],
            &[("/named as a table", "codf")],
            &[("lib.rmeta", "meta"), ("lib.rmeta-link", "x")],
            &[
                ("lib.rmeta", "meta"),
                ("lib.rmeta-link", "x.1ov3ngu.rcgu.o"),
            ],
            &[
                ("lib.rmeta", "meta"),
                ("lib.rmeta-link", "x.0yqsvle.rcgu.o"),
            ],
            &[
                ("lib.rmeta", "meta"),
                ("lib.rmeta-link", &one),
                (&one, "code"),
            ],
            &[
                ("lib.rmeta", "meta"),
                ("lib.rmeta-link", &other),
                (&one, "code"),
            ],
            &[],
        ] {
            let digest = digest(&archive(members));
            assert!(!seen.contains(&digest), "{members:?}");
            seen.push(digest);
        }
    }

    #[test]
    fn other_files_count_byte_for_byte() {
        let good = archive(&[("lib.rmeta", "meta"), (&object("one", "1ov3ngu"), "odd")]);
        for len in 0..good.len() {
            // Cut before a member is one without it.
            let is_other = digest(&good[..len]) != digest(&good);
            assert!(is_other, "cut after {len} bytes");
        }
        let bytes = |text: &str| digest(text.as_bytes());
        assert_eq!(bytes("no archive"), bytes("no archive"));
        assert_ne!(bytes("no archive"), bytes("nor this"));
        let mut odd = good.clone();
        odd[MAGIC.len()] = 0xff;
        assert_ne!(digest(&odd), digest(&good));
    }
}
