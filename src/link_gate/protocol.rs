//! What shim and gate say to each other, and the file through which the shim knows what to say. See
//! the [module's documentation](super#protocol).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The file in the directory of a job. No linker is called that, and neither is any program that
/// may lie beside a `cargo`: its name is how a shim is told from a cargo.
pub(super) const JOB_FILE: &str = "link-gate-job";

/// The socket in the directory of the gate.
pub(super) const SOCKET: &str = "socket";

/// Heard and noted.
pub(super) const ACKNOWLEDGED: u8 = b'A';
/// The permit.
pub(super) const LINK: u8 = b'L';
/// There will be no permit.
pub(super) const REFUSED: u8 = b'R';

/// The last byte is the version.
const HELLO_MAGIC: &[u8; 8] = b"lnkgate1";
const JOB_MAGIC: &[u8] = b"link-gate-job 1";

/// How many hexadecimal digits a job's number has.
const JOB_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 32;
/// How many bytes a hello has.
pub(super) const HELLO_LEN: usize = HELLO_MAGIC.len() + JOB_DIGITS + SECRET_DIGITS + 1;

/// What only the gate and the shim of one job know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret(u128);

impl Secret {
    /// Asks the system for one.
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Secret(u128::from_ne_bytes(bytes)))
    }

    /// Whether it is the same, in a time that does not depend on the answer.
    pub(super) fn matches(&self, other: &Secret) -> bool {
        let differing = (self.0 ^ other.0).to_ne_bytes();
        std::hint::black_box(differing.iter().fold(0, |all, byte| all | byte)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a shim has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It would link now.
    Parked,
    /// A file is missing that rustc should have unpacked from an rlib.
    Incomplete,
    /// The real linker could not be executed.
    NotExecuted,
}

/// The one message of a shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) job: u64,
    pub(super) secret: Secret,
    pub(super) kind: Kind,
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; HELLO_LEN] {
        let kind = match self.kind {
            Kind::Parked => b'P',
            Kind::Incomplete => b'I',
            Kind::NotExecuted => b'N',
        };
        let mut bytes = HELLO_MAGIC.to_vec();
        bytes.extend(format!("{:016x}{:032x}", self.job, self.secret.0).bytes());
        bytes.push(kind);
        let mut encoded = [0; HELLO_LEN];
        encoded.copy_from_slice(&bytes);
        encoded
    }

    /// `None` if it is anything else than exactly what [`encode`](Self::encode) makes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HELLO_LEN] = bytes.try_into().ok()?;
        let rest = bytes.strip_prefix(HELLO_MAGIC)?;
        let (job, rest) = rest.split_at_checked(JOB_DIGITS)?;
        let (secret, kind) = rest.split_at_checked(SECRET_DIGITS)?;
        Some(Hello {
            job: u64::try_from(number(job)?).ok()?,
            secret: Secret(number(secret)?),
            kind: match kind {
                b"P" => Kind::Parked,
                b"I" => Kind::Incomplete,
                b"N" => Kind::NotExecuted,
                _ => return None,
            },
        })
    }

    /// Whether what begins like this can become a hello.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        let common = bytes.len().min(HELLO_MAGIC.len());
        bytes.len() <= HELLO_LEN && bytes[..common] == HELLO_MAGIC[..common]
    }
}

/// Reads hexadecimal digits, lower case and nothing else.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// What a shim finds in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobFile {
    pub(super) job: u64,
    pub(super) secret: Secret,
    /// The real linker, as it was spelled: a path, or a name to be looked up.
    pub(super) linker: OsString,
}

impl JobFile {
    /// Fields, each of which a NUL ends, so that one that was cut off is seen.
    ///
    /// # Errors
    ///
    /// If the name of the linker has a NUL in it or is empty.
    pub(super) fn encode(job: u64, secret: Secret, linker: &OsStr) -> io::Result<Vec<u8>> {
        let linker = linker.as_bytes();
        if linker.is_empty() || linker.contains(&0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not the name of a linker",
            ));
        }
        let mut bytes = JOB_MAGIC.to_vec();
        bytes.extend(format!("\0{job:016x}\0{:032x}\0", secret.0).bytes());
        bytes.extend(linker);
        bytes.push(0);
        Ok(bytes)
    }

    /// `None` if it is anything else than exactly what [`encode`](Self::encode) makes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let (magic, job, secret, linker) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let well_formed = magic == JOB_MAGIC
            && job.len() == JOB_DIGITS
            && secret.len() == SECRET_DIGITS
            && !linker.is_empty()
            && fields.next().is_none();
        well_formed.then_some(())?;
        Some(JobFile {
            job: u64::try_from(number(job)?).ok()?,
            secret: Secret(number(secret)?),
            linker: OsString::from_vec(linker.to_vec()),
        })
    }

    pub(super) fn hello(&self, kind: Kind) -> Hello {
        Hello {
            job: self.job,
            secret: self.secret,
            kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_hello() -> impl Strategy<Value = Hello> {
        let kind = prop::sample::select(vec![Kind::Parked, Kind::Incomplete, Kind::NotExecuted]);
        (any::<u64>(), any::<u128>(), kind).prop_map(|(job, secret, kind)| Hello {
            job,
            secret: Secret(secret),
            kind,
        })
    }

    #[test]
    fn as_it_is_on_the_wire() {
        let hello = Hello {
            job: 0x2a,
            secret: Secret(0xabc),
            kind: Kind::Parked,
        };
        let expected = b"lnkgate1000000000000002a00000000000000000000000000000abcP";
        assert_eq!(&hello.encode(), expected);
        assert_eq!(Hello::decode(expected), Some(hello));
        let upper = expected.to_ascii_uppercase();
        assert_eq!(Hello::decode(&upper), None);
        let mut signed = *expected;
        signed[8] = b'+';
        assert_eq!(Hello::decode(&signed), None);
    }

    #[test]
    fn as_it_is_in_the_file() {
        let linker = OsStr::from_bytes(b"/a dir\xff/cc");
        let bytes = JobFile::encode(7, Secret(1), linker).unwrap();
        let expected: &[u8] = b"link-gate-job 1\x000000000000000007\x00\
            00000000000000000000000000000001\0/a dir\xff/cc\0";
        assert_eq!(bytes, expected);
        let file = JobFile::decode(&bytes).unwrap();
        assert_eq!(
            (file.job, file.secret, &*file.linker),
            (7, Secret(1), linker)
        );
        for cut in 0..bytes.len() {
            assert_eq!(JobFile::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(JobFile::decode(&[&bytes[..], b"more\0"].concat()), None);
        assert_eq!(JobFile::decode(&[&bytes[..], b"\0"].concat()), None);
        for linker in [&b""[..], b"c\0c"] {
            JobFile::encode(7, Secret(1), OsStr::from_bytes(linker)).unwrap_err();
        }
    }

    #[test]
    fn secrets_are_compared_whole_and_never_shown() {
        let secret = Secret::random().unwrap();
        assert!(secret.matches(&secret));
        for bit in 0..128 {
            assert!(!secret.matches(&Secret(secret.0 ^ 1 << bit)));
        }
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_ne!(secret, Secret::random().unwrap());
    }

    proptest! {
        #[test]
        fn only_an_exact_encoding_is_a_hello(
            hello in any_hello(), at in 0..HELLO_LEN, byte: u8, more in prop::collection::vec(any::<u8>(), 1..9),
        ) {
            let encoded = hello.encode();
            prop_assert_eq!(Hello::decode(&encoded), Some(hello));
            prop_assert!((0..=HELLO_LEN).all(|len| Hello::may_begin(&encoded[..len])));
            prop_assert_eq!(Hello::decode(&encoded[..at]), None);
            prop_assert_eq!(Hello::decode(&[&encoded[..], &more].concat()), None);
            let mut damaged = encoded;
            damaged[at] = byte;
            if let Some(decoded) = Hello::decode(&damaged) {
                prop_assert_eq!(decoded.encode(), damaged);
            }
        }

        #[test]
        fn any_bytes_are_at_worst_ignored(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            Hello::may_begin(&bytes);
            prop_assert_eq!(Hello::decode(&bytes), None);
            prop_assert_eq!(JobFile::decode(&bytes), None);
        }

        #[test]
        fn any_name_of_a_linker_comes_back(name in prop::collection::vec(1..=u8::MAX, 1..50), job: u64) {
            let linker = OsString::from_vec(name);
            let file = JobFile { job, secret: Secret(5), linker };
            let bytes = JobFile::encode(job, file.secret, &file.linker).unwrap();
            prop_assert_eq!(JobFile::decode(&bytes), Some(file));
        }
    }
}
