//! The value of `build.pause-memory`.

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected};
use serde_untagged::UntaggedEnumVisitor;
use serde_untagged::de::Error;

/// How much memory the compilers that are paused may hold together, the value of Cargo's
/// `build.pause-memory`.
///
/// A size, a number of bytes or one with a unit (`"2GiB"`, `"500 MB"`), or a percentage (`"25%"`) of the
/// memory that is available when the build begins. With `0` or `"0%"` no compiler is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PauseMemory {
    /// A number of bytes.
    Bytes(u64),
    /// A percentage of what is available, at most 100.
    Percent(u8),
}

impl PauseMemory {
    /// Returns the bytes where this many are [`available`](crate::memory::available): none of an unknown
    /// number.
    pub fn bytes(self, available: Option<u64>) -> u64 {
        match self {
            PauseMemory::Bytes(bytes) => bytes,
            PauseMemory::Percent(percent) => {
                let share = u128::from(available.unwrap_or(0)) * u128::from(percent) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let Some(number) = text.strip_suffix('%') else {
            return size(text).map(PauseMemory::Bytes);
        };
        let percent = number.parse().ok().filter(|percent| *percent <= 100)?;
        let is_signed = number.starts_with('+');
        (!is_signed).then_some(PauseMemory::Percent(percent))
    }
}

/// Reads a size in bytes, as Cargo's own `parse_human_size` does in `src/workspace/gc.rs`: one decimal
/// at most, and only with a unit; one space at most before the unit; any case.
fn size(text: &str) -> Option<u64> {
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let factor: u128 = match unit.to_ascii_lowercase().as_str() {
        "" => return number.parse().ok(),
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    if tenth.len() != 1 {
        return None;
    }
    let tenths = u128::from(whole.parse::<u64>().ok()?) * 10 + tenth.parse::<u128>().ok()?;
    Some(u64::try_from(tenths * factor / 10).unwrap_or(u64::MAX))
}

impl<'de> Deserialize<'de> for PauseMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a size (a number of bytes, or one with B, kB, MB, GB, kiB, MiB or GiB, as in \
            \"2GiB\"), or a percentage of the available memory, \"0%\" to \"100%\"";
        let invalid = |value: Unexpected<'_>| Error::invalid_value(value, &expected);
        UntaggedEnumVisitor::new()
            .expecting(expected)
            .string(|text| PauseMemory::parse(text).ok_or_else(|| invalid(Unexpected::Str(text))))
            .u64(|bytes| Ok(PauseMemory::Bytes(bytes)))
            .i64(|bytes| match u64::try_from(bytes) {
                Ok(bytes) => Ok(PauseMemory::Bytes(bytes)),
                Err(_) => Err(invalid(Unexpected::Signed(bytes))),
            })
            .deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::PauseMemory::*;
    use super::*;

    fn parse(json: &str) -> Result<PauseMemory, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("123b", 123),
            ("123 B", 123),
            ("5 ", 5),
            ("1kb", 1_000),
            ("1.5kB", 1_500),
            ("2.3 kb", 2_300),
            ("500MB", 500_000_000),
            ("1 GB", 1_000_000_000),
            ("1kiB", 1024),
            ("0.1kib", 102),
            ("1MiB", 1_048_576),
            ("2GiB", 2_147_483_648),
            ("1.5gib", 1_610_612_736),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551615 GiB", u64::MAX),
        ] {
            assert_eq!(parse(&format!("{text:?}")), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(parse("0"), Ok(Bytes(0)));
        assert_eq!(parse("1024"), Ok(Bytes(1024)));
        let signed = serde::de::value::I64Deserializer::<serde::de::value::Error>::new(7);
        assert_eq!(Deserialize::deserialize(signed), Ok(Bytes(7)));
    }

    #[test]
    fn percentages() {
        for percent in [0, 1, 25, 100] {
            assert_eq!(parse(&format!("\"{percent}%\"")), Ok(Percent(percent)));
        }
    }

    #[test]
    fn errors_name_the_valid_values() {
        for wrong in [
            r#""""#,
            r#""GiB""#,
            r#"" 1""#,
            r#""1  GiB""#,
            r#""1.5""#,
            r#""1.55GiB""#,
            r#"".5GiB""#,
            r#""1.GiB""#,
            r#""1.2.3GiB""#,
            r#""1TiB""#,
            r#""1G""#,
            r#""-1""#,
            r#""+1""#,
            r#""18446744073709551616""#,
            r#""%""#,
            r#""101%""#,
            r#""256%""#,
            r#""-1%""#,
            r#""+1%""#,
            r#""1.5%""#,
            r#""25 %""#,
            r#""٣%""#,
            "-1",
            "1.5",
            "true",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(
                error.contains(
                    "expected a size (a number of bytes, or one with B, kB, MB, GB, kiB, MiB or GiB, \
                     as in \"2GiB\"), or a percentage of the available memory, \"0%\" to \"100%\""
                ),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn share_of_available_memory() {
        assert_eq!(Percent(25).bytes(Some(4_000_000_001)), 1_000_000_000);
        assert_eq!(Percent(100).bytes(Some(u64::MAX)), u64::MAX);
        assert_eq!(Percent(0).bytes(Some(u64::MAX)), 0);
        assert_eq!(Percent(100).bytes(None), 0);
        for available in [None, Some(1), Some(u64::MAX)] {
            assert_eq!(Bytes(7).bytes(available), 7);
        }
    }
}
