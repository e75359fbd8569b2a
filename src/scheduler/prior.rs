//! What well-known crates take, relative to each other.
//!
//! `cargo xtask prior` makes `prior.txt` of recorded builds: a line for each crate, sorted, with its kind and what
//! it takes in ms on the machine that recorded them, until its metadata is written and from there. Where several
//! builds had it, as the geometric mean. Where a range of compatible versions differs much from the newest, it has
//! a line of its own, `name@range`. It has names, versions and times, and nothing that anybody wrote.

use super::Work;

/// Sorted lines of what crates take.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(&'a str);

/// What the table tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A library that is not optimized.
    Library,
    /// A library that is.
    OptimizedLibrary,
    /// A procedural macro that is not optimized, without its link.
    ProcMacro,
    /// One that is.
    OptimizedProcMacro,
    /// The run of a build script.
    Run,
}

impl Kind {
    /// As it is in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Library => "lib",
            Kind::OptimizedLibrary => "lib-optimized",
            Kind::ProcMacro => "proc-macro",
            Kind::OptimizedProcMacro => "proc-macro-optimized",
            Kind::Run => "run",
        }
    }
}

/// Returns the range of versions that are compatible with this one, as Cargo has it: all that begin with the same
/// numbers up to the first that is not 0.
pub fn compatible(version: [u64; 3]) -> String {
    match version {
        [0, 0, patch] => format!("0.0.{patch}"),
        [0, minor, _] => format!("0.{minor}"),
        [major, ..] => major.to_string(),
    }
}

/// Returns the begin of the line of a crate, with or without a range of versions.
pub fn line_of(name: &str, range: Option<&str>, kind: Kind) -> String {
    let kind = kind.name();
    match range {
        Some(range) => format!("{name}@{range} {kind} "),
        None => format!("{name} {kind} "),
    }
}

impl<'a> Table<'a> {
    /// The table of the engine.
    pub const SHIPPED: Table<'static> = Table(include_str!("prior.txt"));

    /// Makes a table of lines that are sorted.
    pub fn new(lines: &'a str) -> Self {
        Table(lines)
    }

    /// Returns what a crate takes, in µs, if the table has it.
    pub(super) fn find(self, name: &str, version: [u64; 3], kind: Kind) -> Option<Work> {
        let range = compatible(version);
        find_in(self.0, &line_of(name, Some(&range), kind))
            .or_else(|| find_in(self.0, &line_of(name, None, kind)))
    }
}

/// Looks for the line of sorted `lines` that begins so.
fn find_in(lines: &str, begin: &str) -> Option<Work> {
    let (mut low, mut high) = (0, lines.len());
    while low < high {
        // Nothing in the table is anything but ASCII, so each byte is a character.
        let middle = low.midpoint(high);
        let start = lines
            .get(..middle)?
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let end = lines
            .get(middle..)?
            .find('\n')
            .map_or(lines.len(), |it| middle + it);
        let line = lines.get(start..end)?;
        if let Some(figures) = line.strip_prefix(begin) {
            let mut figures = figures.split(' ').map(|ms| ms.parse::<u64>().ok());
            let [frontend, codegen] =
                [figures.next()??, figures.next().flatten().unwrap_or(0)].map(|ms| ms * 1_000);
            return Some(Work {
                frontend,
                codegen,
                link: 0,
            });
        }
        if line < begin {
            low = end + 1;
        } else {
            high = start;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found() {
        let Table(table) = Table::SHIPPED;
        let lines = table.lines().collect::<Vec<_>>();
        assert!(lines.is_sorted() && lines.len() > 500);
        for line in lines {
            let fields = line.split(' ').collect::<Vec<_>>();
            let begin = format!("{} {} ", fields[0], fields[1]);
            let figures = fields[2..]
                .iter()
                .map(|ms| 1_000 * ms.parse::<u64>().unwrap());
            let Work {
                frontend, codegen, ..
            } = find_in(table, &begin).unwrap();
            let found = [frontend, codegen];
            assert!(
                figures.eq(found.into_iter().take(fields.len() - 2)),
                "{line}"
            );
        }
        for missing in ["0 lib ", "sy lib ", "zzz lib ", "serde@0.1 lib "] {
            assert_eq!(find_in(table, missing), None);
            assert_eq!(find_in("", missing), None);
        }
    }

    #[test]
    fn ranges_of_compatible_versions() {
        let of = |version| compatible(version);
        assert_eq!(of([1, 2, 3]), "1");
        assert_eq!(of([0, 2, 3]), "0.2");
        assert_eq!(of([0, 0, 3]), "0.0.3");
    }

    #[test]
    fn range_goes_first() {
        let table = Table::new("a lib 9 8\na-b run 5\na@0.3 lib 7 6\n");
        let frontend = |name, version, kind| Some(table.find(name, version, kind)?.frontend);
        assert_eq!(frontend("a", [0, 2, 1], Kind::Library), Some(9_000));
        assert_eq!(frontend("a", [0, 3, 1], Kind::Library), Some(7_000));
        assert_eq!(frontend("a-b", [0, 3, 1], Kind::Run), Some(5_000));
        assert_eq!(frontend("a", [0, 3, 1], Kind::Run), None);
    }
}
