//! Digests of libraries, without what is different each time that they are made.
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
//! rust-lang/rust#154861: it lists the members that are objects of Rust.) Object files that incremental
//! compilation has reused have the same content under another name. A linker that writes ELF reads the
//! content alone, so such libraries count as the same. On Apple's systems the names get into what is
//! linked, for debuggers; there, a library is a file like any other.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::Digest;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const METADATA: &str = "lib.rmeta";
const OBJECT_NAMES: &str = "lib.rmeta-link";
const OBJECT: &str = ".rcgu.o";

/// The digest of an output, and whether it is a library that has native code in it.
///
/// # Errors
///
/// If the file cannot be read.
pub fn digest(path: &Path) -> io::Result<(Digest, bool)> {
    let is_library = path.extension().is_some_and(|it| it == "rlib");
    if !is_library {
        return Ok((Digest::of_file(path)?, false));
    }
    match of_archive(path) {
        // It is not as libraries are: then its bytes count, and anything may be in it.
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok((Digest::of_file(path)?, true)),
        Ok((_, has_native_code)) if cfg!(target_vendor = "apple") => {
            Ok((Digest::of_file(path)?, has_native_code))
        }
        result => result,
    }
}

/// The digest of the names and contents of all members, in order, and whether there are others than
/// those that rustc makes itself.
fn of_archive(path: &Path) -> io::Result<(Digest, bool)> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let own_objects = format!("{}.", stem.strip_prefix("lib").unwrap_or(&stem));
    let mut file = BufReader::new(File::open(path)?);
    let mut magic = [0; MAGIC.len()];
    read_exact(&mut file, &mut magic)?;
    if &magic != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let len = file.get_ref().metadata()?.len();
    let mut at = MAGIC.len() as u64;
    let mut long_names = Vec::new();
    let mut object_names = Vec::new();
    let mut invocations: Vec<String> = Vec::new();
    let mut has_native_code = false;
    let mut members = Vec::new();
    while at < len {
        let mut header = [0; 60];
        read_exact(&mut file, &mut header)?;
        let (name, size) = parse(&header).ok_or(io::ErrorKind::InvalidData)?;
        let mut content = (&mut file).take(size);
        match name {
            // What archivers derive from the rest.
            "/" | "/SYM64/" => {
                io::copy(&mut content, &mut io::sink())?;
            }
            "//" => drop(content.read_to_end(&mut long_names)?),
            _ => {
                let name = full_name(name, &long_names).ok_or(io::ErrorKind::InvalidData)?;
                if name == OBJECT_NAMES {
                    content.read_to_end(&mut object_names)?;
                } else {
                    let name_digest = match split_object_name(name) {
                        Some((unit, invocation)) => {
                            if !invocations.iter().any(|it| it == invocation) {
                                invocations.push(invocation.to_owned());
                            }
                            Digest::of_value(&(unit, OBJECT))
                        }
                        None => Digest::of_value(name),
                    };
                    has_native_code |= !(name == METADATA
                        || name.starts_with(&own_objects) && name.ends_with(OBJECT));
                    let mut hasher = blake3::Hasher::new();
                    hasher.update_reader(&mut content)?;
                    members.extend([name_digest, hasher.into()]);
                }
            }
        }
        if content.limit() > 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Members begin at even offsets.
        at += header.len() as u64 + size + size % 2;
        file.seek(SeekFrom::Start(at))?;
    }
    members.push(object_names_digest(object_names, &invocations));
    Ok((Digest::chain("archive", members), has_native_code))
}

/// The digest of a list of names without the invocations in them.
fn object_names_digest(mut names: Vec<u8>, invocations: &[String]) -> Digest {
    for invocation in invocations {
        let name = format!(".{invocation}{OBJECT}").into_bytes();
        let mut at = 0;
        while let Some(rest) = names.get_mut(at..at + name.len()) {
            if rest == name {
                rest[1..=invocation.len()].fill(0);
            }
            at += 1;
        }
    }
    Digest::of_value(&names)
}

/// A file that ends too early is no archive.
fn read_exact(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<()> {
    file.read_exact(buffer).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => io::ErrorKind::InvalidData.into(),
        _ => e,
    })
}

/// The name and the size that are in the header of a member.
fn parse(header: &[u8; 60]) -> Option<(&str, u64)> {
    let name = str::from_utf8(&header[..16]).ok()?.trim_end();
    let size = str::from_utf8(&header[48..58]).ok()?.trim_end();
    header
        .ends_with(b"`\n")
        .then_some((name, size.parse().ok()?))
}

/// The whole name, where the header has `short/` or the offset of a longer name.
fn full_name<'a>(name: &'a str, long_names: &'a [u8]) -> Option<&'a str> {
    let Some(offset) = name.strip_prefix('/') else {
        return name.strip_suffix('/');
    };
    let rest = long_names.get(offset.parse::<usize>().ok()?..)?;
    let end = rest.iter().position(|&byte| byte == b'\n' || byte == 0)?;
    let name = str::from_utf8(&rest[..end]).ok()?;
    Some(name.strip_suffix('/').unwrap_or(name))
}

/// The name of an object without its end, and the invocation, where it has one.
fn split_object_name(name: &str) -> Option<(&str, &str)> {
    let (unit, invocation) = name.strip_suffix(OBJECT)?.rsplit_once('.')?;
    unit.contains('.').then_some((unit, invocation))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let good = archive(&[("lib.rmeta", "meta"), (&object("one", "1ov3ngu"), "code")]);
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
