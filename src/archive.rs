//! Reads and writes `ar` archives in GNU's format, which rustc uses for targets with ELF.
//!
//! In BSD's format, which it uses for Apple's, a long name is `#1/` and a length, and begins the content. It
//! is read as if that were the name.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

pub(crate) const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_LEN: usize = 60;
/// What the size field of a header, ten decimal digits, can hold.
const MAX_SIZE: u64 = 9_999_999_999;

/// Returns the names of all members and where their contents are, without reading these. Names of members
/// that archivers derive from the others begin with `/`. The error is `InvalidData` or `UnexpectedEof` if it
/// is no archive or incomplete.
pub(crate) fn members(file: &mut (impl Read + Seek)) -> io::Result<Vec<(String, Range<u64>)>> {
    let len = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut at = MAGIC.len() as u64;
    let mut long_names = String::new();
    let mut members = Vec::new();
    while at < len {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; HEADER_LEN];
        file.read_exact(&mut header)?;
        let (name, size) = parse(&header).ok_or(io::ErrorKind::InvalidData)?;
        let start = at + HEADER_LEN as u64;
        // Members begin at even offsets.
        at = (start + size).next_multiple_of(2);
        if at > len {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if name == "//" {
            file.take(size).read_to_string(&mut long_names)?;
        }
        let name = full_name(name, &long_names).ok_or(io::ErrorKind::InvalidData)?;
        members.push((name.to_owned(), start..start + size));
    }
    Ok(members)
}

/// Returns the name and the size that are in the header of a member.
fn parse(header: &[u8; HEADER_LEN]) -> Option<(&str, u64)> {
    let name = str::from_utf8(&header[..16]).ok()?.trim_end();
    let size = str::from_utf8(&header[48..58]).ok()?.trim_end();
    let size = size.parse().ok()?;
    header.ends_with(b"`\n").then_some((name, size))
}

/// Returns the whole name, where the header has `short/`, or `short` in BSD's format, or the offset of a
/// longer name.
fn full_name<'a>(name: &'a str, long_names: &'a str) -> Option<&'a str> {
    let Some(offset) = name.strip_prefix('/') else {
        return Some(name.strip_suffix('/').unwrap_or(name));
    };
    if ["/", "//", "/SYM64/"].contains(&name) {
        return Some(name);
    }
    let rest = long_names.get(offset.parse::<usize>().ok()?..)?;
    let (name, _) = rest.split_once(['\n', '\0'])?;
    let name = name.strip_suffix('/').unwrap_or(name);
    (!name.starts_with('/')).then_some(name)
}

/// Appends a member as `ar` does with `D` (deterministic). `name` has at most 15 bytes. It is an error if
/// `content` is not of this size, or has 10 GB or more.
pub(crate) fn write_member(
    archive: &mut impl Write,
    name: &str,
    content: &mut impl Read,
    size: u64,
) -> io::Result<()> {
    if size > MAX_SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let name = format!("{name}/");
    let [date, owner, group, mode] = [0, 0, 0, 644];
    let header = format!("{name:<16}{date:<12}{owner:<6}{group:<6}{mode:<8}{size:<10}`\n");
    archive.write_all(header.as_bytes())?;
    // From file to file, without a buffer in between, the kernel can do it.
    if io::copy(content, archive)? != size {
        let message = "the content changed while it was read";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    archive.write_all(if size % 2 == 1 { b"\n" } else { b"" })
}
