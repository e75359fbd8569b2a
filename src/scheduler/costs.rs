//! What units cost when they were last built, for the next build of anything that has them.
//!
//! What is worth ordering is a clean build, and there the target directory knows nothing: so costs
//! are kept in one small SQLite file under cargo's home directory, for all projects of a user. A
//! crate from a registry costs about the same in all of them, and another version of it, other
//! features or another profile still say much:
//!
//! ```text
//!   Identity              Key                                      the file
//!  ┌──────────────┐      ┌──────────────────────────┐             ┌───────────────────────────────┐
//!  │ package      │blake3│                          │ estimates   │ crate, profile, variant       │
//!  │ target, kind ├─────▶│ crate    ── the same ────┼────────────▶│   all equal      Exact        │
//!  │ mode         │      │                          │             │   variant not    OtherVersion │
//!  │ profile      ├─────▶│ profile  ── preferably ──┤             │   profile not    OtherProfile │
//!  │ version, …   ├─────▶│ variant  ── at best ─────┤ record      │                  × the ratio  │
//!  └──────────────┘      └──────────────────────────┘────────────▶│ phases, builds, day           │
//!                                                                 └───────────────────────────────┘
//! ```
//!
//! A phase of a unit that is asked for is estimated from the nearest unit for which it is known; of
//! several that are equally near, from the one that was measured last. A cost under another profile
//! is multiplied by what the same phase of other crates, known under both profiles, took under the
//! one and under the other.
//!
//! # Costs are never needed
//!
//! They decide the order of a build and nothing else. So whatever is wrong with the file is an
//! error for the caller to mention, and the build goes on without:
//!
//! | the file | [`estimates`](Store::estimates) | [`record`](Store::record) |
//! | --- | --- | --- |
//! | is not there, or empty | knows nothing, creates nothing | creates it, for the user alone |
//! | is not a database, is damaged, or is something else's | error | replaces what is in it |
//! | has another `VERSION` | error | replaces what is in it |
//! | is larger than 16 MiB | reads it | replaces what is in it |
//! | cannot be read or written, is a directory | error | error |
//! | is locked for longer than about a second | error | error |
//! | has a value that is negative, no integer, or more than a day | unknown, or a day | corrects it |
//!
//! Replacing goes through SQLite ([`SQLITE_DBCONFIG_RESET_DATABASE`][reset]), under its locks and in
//! place. If the file were removed while another process writes to it, the journal of that process
//! would be taken for the next file's. If two processes replace a damaged file at once, what the
//! first one records may be lost.
//!
//! # Many cargos at once
//!
//! SQLite's locks order them. Each call is one transaction of one connection; a writer takes the
//! lock for writing before it reads anything, so two cannot wait for each other. The journal is
//! SQLite's default, a file beside the store while something is written, because the alternative,
//! a write-ahead log, needs memory that processes share, which network file systems do not have. If
//! cargo is killed, the next one rolls back. Nothing is flushed to the disk: costs that are lost with
//! the power, or a file that is damaged by it, are not worth the wait at the end of each build.
//!
//! # Bounds
//!
//! The file keeps 40,000 units at most, which is 13 MB if all pages are as empty as SQLite lets them
//! become, and 32 variants of a crate. What was measured longest ago goes first, by day. The file
//! does not shrink, since it would grow again: pages that become free are used for the next rows.
//! Should that reasoning be wrong, `max_page_count` stops the file at 16 MiB.
//!
//! # What somebody can learn from it
//!
//! There is no name, version or path in the file, only hashes. Who knows a name can still find out
//! whether it was built here, and when.
//!
//! [reset]: https://www.sqlite.org/c3ref/c_dbconfig_defensive.html#sqlitedbconfigresetdatabase

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Statement, Transaction,
    TransactionBehavior, params,
};

use super::estimate::Measured;

#[cfg(test)]
mod tests;

/// What a file of ours has in its header, for `file(1)` and for us.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"CCst");

/// Of the format, and of what the values in it mean: how keys are hashed, what is measured.
///
/// Cargos that disagree about it would take turns in replacing the file. Who changes it gives the
/// file another name, too.
const VERSION: i32 = 1;

/// The whole schema, as SQLite gives it back, ordered by name. A file with any other is not ours.
const SCHEMA: [&str; 2] = [
    "CREATE TABLE costs (\
        crate INTEGER NOT NULL, profile INTEGER NOT NULL, variant INTEGER NOT NULL, \
        frontend INTEGER, codegen INTEGER, link INTEGER, \
        builds INTEGER NOT NULL, last_measured INTEGER NOT NULL, \
        PRIMARY KEY (crate, profile, variant)) WITHOUT ROWID",
    "CREATE INDEX costs_by_profile ON costs (profile)",
];

/// How much is kept.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// No file grows beyond this.
    bytes: u64,
    /// The most units that are kept.
    rows: i64,
}

/// A unit takes about 90 bytes, and SQLite merges pages that are less than a third full (`balance`
/// in its `btree.c`).
const LIMITS: Limits = Limits {
    bytes: 16 << 20,
    rows: 40_000,
};

/// After so many units it is seen to the limits.
const CHUNK: usize = 2_000;

/// The most variants of a crate that are kept, over all profiles.
const MAX_ROWS_PER_CRATE: i64 = 32;

/// How long a call waits for a lock, each of the three times that it may have to: to read, to
/// write, and until nobody reads.
const PATIENCE: Duration = Duration::from_millis(300);

/// The longest that a phase may take, in µs: a day. What is more was not the unit's doing.
const MAX_PHASE: u64 = 24 * 60 * 60 * 1_000_000;

/// How many crates are looked at to find out how costs under two profiles compare.
const WITNESSES: usize = 256;

/// The largest factor between two profiles that is believed, either way.
const MAX_RATIO: u64 = 16;

/// Number of phases in [`Measured`].
const PHASES: usize = 3;

/// What identifies a unit across builds and projects. Each part is any text that is the same
/// whenever the part is; nothing is stored but hashes.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Name of the package.
    pub package: &'a str,
    /// Name of the target: `main`, `build-script-build`, …
    pub target: &'a str,
    /// Kind of the target: `lib`, `proc-macro`, `bin`, …
    pub kind: &'a str,
    /// What is done with it: `build`, `test`, `check`, … A build script's run is a unit of its own,
    /// with a mode that says so.
    pub mode: &'a str,
    /// The profile, with all that changes how long a compiler works: optimization, debug
    /// information, LTO, codegen units, whether it is incremental, …
    pub profile: &'a str,
    /// Where the package is from. It tells apart the `cli 0.1.0` of two projects.
    pub source: &'a str,
    /// Version of the package.
    pub version: &'a str,
    /// The features that are on, in any order.
    pub features: &'a [&'a str],
    /// The platform that the unit is built for.
    pub platform: &'a str,
}

/// An [`Identity`] as the file knows it: three hashes, the same on every machine and in every
/// release of cargo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Package, target, kind, mode.
    krate: u64,
    profile: u64,
    /// The rest: source, version, features, platform.
    variant: u64,
}

impl Key {
    /// The key of a unit. Blocks on nothing.
    pub fn of(identity: &Identity<'_>) -> Key {
        let Identity {
            package,
            target,
            kind,
            mode,
            profile,
            source,
            version,
            features,
            platform,
        } = *identity;
        let mut features = features.to_vec();
        features.sort_unstable();
        let mut variant = vec![source, version, platform];
        variant.append(&mut features);
        Key {
            krate: hash("crate", &[package, target, kind, mode]),
            profile: hash("profile", &[profile]),
            variant: hash("variant", &variant),
        }
    }
}

/// The first 64 bits of BLAKE3: std's hasher may change with any release of Rust.
fn hash(what: &str, parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [&[what], parts].concat() {
        // With the length in front, no two lists of parts are the same bytes.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(prefix)
}

/// What is known of the phases of a unit from earlier builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What each phase will probably take, in µs. At least one is known.
    pub measured: Measured,
    /// The farthest of what the phases were estimated from.
    pub basis: Basis,
}

/// What an estimate was made from, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The very unit.
    Exact,
    /// The same crate under the same profile, in another version, from elsewhere, with other
    /// features or for another platform.
    OtherVersion,
    /// The same crate under another profile.
    OtherProfile,
}

/// The costs of all units of all projects of a user. See the [module's documentation](self).
///
/// Any number of them, in any number of processes, may be used on the same file at once.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    patience: Duration,
    limits: Limits,
    /// [`estimates`](Store::estimates) came by damage. It may be in a page that
    /// [`record`](Store::record) does not need, and would stay for ever.
    is_damaged: AtomicBool,
}

impl Store {
    /// The store at `path`, a file such as `.build-costs` in cargo's home directory. Nothing is
    /// opened yet.
    pub fn at(path: impl Into<PathBuf>) -> Store {
        Store {
            path: path.into(),
            patience: PATIENCE,
            limits: LIMITS,
            is_damaged: AtomicBool::new(false),
        }
    }

    /// What each of `keys` will probably cost, in their order; `None` where nothing is known.
    ///
    /// Reads the file, and blocks for about a second at most if another process has it locked.
    /// Creates and changes nothing. Not being there is no error; the module's documentation has a
    /// table of what is.
    pub fn estimates(&self, keys: &[Key]) -> anyhow::Result<Vec<Option<Known>>> {
        self.try_estimates(keys)
            .with_context(|| format!("failed to read build costs from `{}`", self.path.display()))
    }

    /// Takes what was measured in a build into account: the first time as it is, later as a moving
    /// average.
    ///
    /// Only phases that are `Some` count, each as a day at most. Creates the file if need be, but no
    /// directory, and replaces what is in it if that is damaged or not of this version. Either all is
    /// recorded or, with an error, nothing. Blocks for about a second at most if another process has
    /// the file locked.
    pub fn record(&self, measured: &[(Key, Measured)]) -> anyhow::Result<()> {
        self.record_on(today(), measured)
            .with_context(|| format!("failed to write build costs to `{}`", self.path.display()))
    }

    fn try_estimates(&self, keys: &[Key]) -> anyhow::Result<Vec<Option<Known>>> {
        if self.size()?.is_none() || keys.is_empty() {
            return Ok(vec![None; keys.len()]);
        }
        // Not read-only, so that what a killed cargo has left is rolled back. SQLite makes it
        // read-only by itself if it must be.
        let mut connection = self.connect(OpenFlags::empty())?;
        match read(&mut connection, keys) {
            Ok(Read::Estimates(estimates)) => Ok(estimates),
            Ok(Read::Foreign) => bail!(
                "it holds something else, or costs of another version of cargo; a build that can write to it replaces it"
            ),
            Err(error) if is_damage(&error) => {
                self.is_damaged.store(true, Ordering::Relaxed);
                Err(error).context("it is damaged; a build that can write to it replaces it")
            }
            Err(error) => Err(error.into()),
        }
    }

    fn record_on(&self, day: i64, measured: &[(Key, Measured)]) -> anyhow::Result<()> {
        if measured
            .iter()
            .all(|(_, measured)| *measured == Measured::default())
        {
            return Ok(());
        }
        let size = self.size()?;
        let mut connection = self.connect(OpenFlags::SQLITE_OPEN_CREATE)?;
        if size.is_none() {
            restrict(&self.path)?;
        }
        let is_too_large = size.is_some_and(|size| size > self.limits.bytes);
        // Another process may have replaced it since.
        let is_damaged = self.is_damaged.load(Ordering::Relaxed) && !is_sound(&connection)?;
        if is_too_large || is_damaged {
            reset(&connection).context("it is damaged or too large, and cannot be replaced")?;
        } else {
            match write(&mut connection, day, self.limits, measured) {
                Ok(Written::All) => return Ok(()),
                Ok(Written::NothingInForeign) => reset(&connection).context(
                    "it holds something else, or costs of another version of cargo, and cannot be replaced",
                )?,
                // A damaged header can make a database read-only, too. If it is the file that is,
                // this fails, and the first error says why.
                Err(error) if is_damage(&error) || is_read_only(&error) => {
                    reset(&connection).map_err(|_| error)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // What the connection has cached is of before.
        drop(connection);
        let mut connection = self.connect(OpenFlags::empty())?;
        match write(&mut connection, day, self.limits, measured)? {
            Written::All => {
                self.is_damaged.store(false, Ordering::Relaxed);
                Ok(())
            }
            Written::NothingInForeign => bail!("something else is written to it"),
        }
    }

    /// The size of the file in bytes, if it is there.
    fn size(&self) -> anyhow::Result<Option<u64>> {
        // Never opened for this: when a process closes a file, it loses all its locks on it, also
        // those that SQLite has through another descriptor.
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => bail!("it is not a regular file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.patience)?;
        // Neither reads the file. The first is what <https://www.sqlite.org/security.html> asks for
        // where a file may be damaged, the second keeps temporary files out of other directories.
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    }
}

/// Lets only the user read and write the file.
#[cfg(unix)]
fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Windows gives what is in the user's directories to the user alone.
#[cfg(not(unix))]
fn restrict(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Days since 1970.
fn today() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |duration| (duration.as_secs() / 86_400).cast_signed())
}

/// What is in the file is at fault, not what keeps us from using it.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                // No statement of ours violates a constraint.
                | ErrorCode::ConstraintViolation
                // SQLITE_ERROR. No statement of ours is wrong for our schema.
                | ErrorCode::Unknown
        ),
        // SQLite has no complaint: a value is not of the type of its column.
        None => true,
    }
}

/// Looks at the whole file for damage.
fn is_sound(connection: &Connection) -> rusqlite::Result<bool> {
    let check = "PRAGMA integrity_check(1)";
    match connection.query_row(check, [], |row| row.get::<_, String>(0)) {
        Ok(answer) => Ok(answer == "ok"),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_read_only(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ReadOnly)
}

/// Lets each page be read and written once, though hashes are in no useful order.
fn keep_in_memory(connection: &Connection) -> rusqlite::Result<()> {
    // In KiB if it is negative, and at most.
    let cache_size = -(LIMITS.bytes.cast_signed() / 1024);
    connection.pragma_update(None, "cache_size", cache_size)
}

/// Whose a database is.
enum Owner {
    /// There is nothing in it.
    Nobody,
    /// Costs, of this version.
    Us,
    SomebodyElse,
}

fn owner(transaction: &Transaction<'_>) -> rusqlite::Result<Owner> {
    let mut schema = transaction.prepare("SELECT sql FROM sqlite_schema ORDER BY name")?;
    // As many as tell ours from another.
    let schema = schema
        .query_map([], |row| row.get::<_, Option<String>>(0))?
        .take(SCHEMA.len() + 1)
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if schema.is_empty() {
        return Ok(Owner::Nobody);
    }
    let id: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let is_ours = schema.iter().map(Option::as_deref).eq(SCHEMA.map(Some))
        && (id, version) == (APPLICATION_ID, VERSION);
    Ok(match is_ours {
        true => Owner::Us,
        false => Owner::SomebodyElse,
    })
}

/// Makes of any file an empty database.
fn reset(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
    connection.execute_batch("VACUUM")?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
    Ok(())
}

/// What is known of a unit.
#[derive(Default)]
struct Row {
    profile: u64,
    variant: u64,
    /// In µs, a day at most.
    phases: [Option<u64>; PHASES],
    /// How often it was measured.
    builds: u32,
    /// In days since 1970.
    last_measured: i64,
}

impl Row {
    const COLUMNS: &str = "profile, variant, frontend, codegen, link, builds, last_measured";

    /// What is known after one more build.
    fn averaged_with(self, measured: Measured) -> Row {
        let mut phases = self.phases;
        for (phase, new) in phases.iter_mut().zip(measured.to_array()) {
            *phase = smooth(*phase, self.builds, new);
        }
        Row {
            phases,
            builds: self.builds.saturating_add(1),
            ..self
        }
    }

    /// Reads the [`COLUMNS`](Self::COLUMNS), with whatever somebody may have written there. `None` if
    /// it cannot be said what the row is about.
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Row>> {
        let (Some(profile), Some(variant)) = (integer(row, 0)?, integer(row, 1)?) else {
            return Ok(None);
        };
        let mut phases = [None; PHASES];
        for (phase, column) in phases.iter_mut().zip(2..) {
            let value = integer(row, column)?.and_then(|value| u64::try_from(value).ok());
            *phase = value.map(|value| value.min(MAX_PHASE));
        }
        let builds = integer(row, 5)?.and_then(|builds| u32::try_from(builds).ok());
        Ok(Some(Row {
            profile: profile.cast_unsigned(),
            variant: variant.cast_unsigned(),
            phases,
            builds: builds.unwrap_or_default(),
            last_measured: integer(row, 6)?.unwrap_or_default(),
        }))
    }
}

/// `None` for whatever is no integer.
fn integer(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(value) => Some(value),
        _ => None,
    })
}

/// The rows of one crate.
struct CrateRows<'a>(Statement<'a>);

impl<'a> CrateRows<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        let columns = Row::COLUMNS;
        // There are not more, unless somebody has edited the file.
        let limit = MAX_ROWS_PER_CRATE;
        let sql = format!("SELECT {columns} FROM costs WHERE crate = ?1 LIMIT {limit}");
        transaction.prepare(&sql).map(CrateRows)
    }

    fn get(&mut self, krate: u64) -> rusqlite::Result<Vec<Row>> {
        self.0
            .query_map([krate.cast_signed()], Row::read)?
            .filter_map(Result::transpose)
            .collect()
    }
}

enum Read {
    Estimates(Vec<Option<Known>>),
    /// The file is not ours, or not of this version.
    Foreign,
}

fn read(connection: &mut Connection, keys: &[Key]) -> rusqlite::Result<Read> {
    keep_in_memory(connection)?;
    let transaction = connection.transaction()?;
    match owner(&transaction)? {
        Owner::Nobody => return Ok(Read::Estimates(vec![None; keys.len()])),
        Owner::Us => {}
        Owner::SomebodyElse => return Ok(Read::Foreign),
    }
    let mut rows = CrateRows::prepare(&transaction)?;
    let mut ratios = Ratios::prepare(&transaction)?;
    let estimates = keys
        .iter()
        .map(|key| estimate(*key, &rows.get(key.krate)?, &mut ratios))
        .collect::<rusqlite::Result<_>>()?;
    Ok(Read::Estimates(estimates))
}

/// Estimates each phase of `key` from the nearest of `rows`, which are those of its crate.
fn estimate(key: Key, rows: &[Row], ratios: &mut Ratios<'_>) -> rusqlite::Result<Option<Known>> {
    let basis = |row: &Row| match (row.profile == key.profile, row.variant == key.variant) {
        (true, true) => Basis::Exact,
        (true, false) => Basis::OtherVersion,
        (false, _) => Basis::OtherProfile,
    };
    let mut by_distance: Vec<(Basis, &Row)> = rows.iter().map(|row| (basis(row), row)).collect();
    by_distance.sort_by_key(|(basis, row)| {
        (
            *basis,
            row.variant != key.variant,
            Reverse((row.last_measured, row.builds)),
        )
    });
    let mut phases = [None; PHASES];
    let mut farthest = None;
    for (phase, estimated) in phases.iter_mut().enumerate() {
        let nearest = by_distance
            .iter()
            .find_map(|(basis, row)| Some((*basis, row.profile, row.phases[phase]?)));
        let Some((basis, profile, cost)) = nearest else {
            continue;
        };
        *estimated = Some(match basis {
            Basis::Exact | Basis::OtherVersion => cost,
            Basis::OtherProfile => ratios.get(profile, key.profile, phase)?.apply(cost),
        });
        farthest = farthest.max(Some(basis));
    }
    Ok(farthest.map(|basis| Known {
        measured: Measured::from_array(phases),
        basis,
    }))
}

/// What crates that are known under two profiles took under each, in µs.
#[derive(Clone, Copy, Default)]
struct Ratio {
    from: u64,
    to: u64,
}

impl Ratio {
    /// `cost`, which is under the one profile, under the other. As it is if no crate is known under
    /// both.
    fn apply(self, cost: u64) -> u64 {
        if self.from == 0 || self.to == 0 {
            return cost;
        }
        let scaled = u128::from(cost) * u128::from(self.to) / u128::from(self.from);
        let scaled = u64::try_from(scaled).unwrap_or(u64::MAX);
        scaled
            .clamp(cost / MAX_RATIO, cost.saturating_mul(MAX_RATIO))
            .min(MAX_PHASE)
    }
}

/// How costs under different profiles compare, found out when it is asked for.
struct Ratios<'a> {
    /// Some crates that are known under a profile: a fair sample, since they come in the order of
    /// their hashes.
    witnesses: Statement<'a>,
    rows: CrateRows<'a>,
    /// By the profile that is wanted, then by the one that is known.
    known: HashMap<u64, HashMap<u64, [Ratio; PHASES]>>,
}

impl<'a> Ratios<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        let sql = format!("SELECT DISTINCT crate FROM costs WHERE profile = ?1 LIMIT {WITNESSES}");
        Ok(Ratios {
            witnesses: transaction.prepare(&sql)?,
            rows: CrateRows::prepare(transaction)?,
            known: HashMap::new(),
        })
    }

    fn get(&mut self, from: u64, to: u64, phase: usize) -> rusqlite::Result<Ratio> {
        if !self.known.contains_key(&to) {
            let ratios = self.measure(to)?;
            self.known.insert(to, ratios);
        }
        let ratios = self.known.get(&to).and_then(|ratios| ratios.get(&from));
        Ok(ratios.map(|ratios| ratios[phase]).unwrap_or_default())
    }

    /// Compares all profiles with `to`.
    fn measure(&mut self, to: u64) -> rusqlite::Result<HashMap<u64, [Ratio; PHASES]>> {
        let mut ratios: HashMap<u64, [Ratio; PHASES]> = HashMap::new();
        let witnesses = self
            .witnesses
            .query_map([to.cast_signed()], |row| integer(row, 0))?
            .filter_map(Result::transpose)
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for krate in witnesses {
            let means = means_by_profile(&self.rows.get(krate.cast_unsigned())?);
            let Some(wanted) = means.get(&to) else {
                continue;
            };
            for (from, known) in &means {
                let ratios = ratios.entry(*from).or_default();
                for phase in 0..PHASES {
                    if let (Some(known), Some(wanted)) = (known[phase], wanted[phase]) {
                        ratios[phase].from += known;
                        ratios[phase].to += wanted;
                    }
                }
            }
        }
        Ok(ratios)
    }
}

/// The mean of each phase of a crate, over its variants.
fn means_by_profile(rows: &[Row]) -> HashMap<u64, [Option<u64>; PHASES]> {
    let mut sums: HashMap<u64, [(u64, u64); PHASES]> = HashMap::new();
    for row in rows {
        let sums = sums.entry(row.profile).or_default();
        for ((sum, count), cost) in sums.iter_mut().zip(row.phases) {
            if let Some(cost) = cost {
                *sum += cost;
                *count += 1;
            }
        }
    }
    sums.into_iter()
        .map(|(profile, sums)| (profile, sums.map(|(sum, count)| sum.checked_div(count))))
        .collect()
}

/// The average after one more build, when `builds` are in `old` already. An outlier counts for half
/// once and for a quarter at most later, so it is forgotten.
///
/// Neither more nor less than both: the division rounds towards `old`.
fn smooth(old: Option<u64>, builds: u32, new: Option<u64>) -> Option<u64> {
    let new = new.map(|new| new.min(MAX_PHASE));
    let (Some(old), Some(new)) = (old, new) else {
        return new.or(old);
    };
    let builds = u64::from(builds.saturating_add(1).min(4));
    Some(if new > old {
        old + (new - old) / builds
    } else {
        old - (old - new) / builds
    })
}

enum Written {
    All,
    /// The file is not ours, or not of this version.
    NothingInForeign,
}

fn write(
    connection: &mut Connection,
    day: i64,
    limits: Limits,
    measured: &[(Key, Measured)],
) -> rusqlite::Result<Written> {
    keep_in_memory(connection)?;
    // See "Many cargos at once".
    connection.pragma_update(None, "synchronous", "OFF")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match owner(&transaction)? {
        Owner::Nobody => {
            transaction.execute_batch(&SCHEMA.join(";"))?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        Owner::Us => {}
        Owner::SomebodyElse => return Ok(Written::NothingInForeign),
    }
    let page_size: u32 = transaction.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let max_pages = limits.bytes / u64::from(page_size.max(1));
    // It answers with the new value, which makes it a query.
    transaction.query_row(&format!("PRAGMA max_page_count = {max_pages}"), [], |_| {
        Ok(())
    })?;
    write_rows(&transaction, day, limits.rows, measured)?;
    transaction.commit()?;
    Ok(Written::All)
}

fn write_rows(
    transaction: &Transaction<'_>,
    day: i64,
    max_rows: i64,
    measured: &[(Key, Measured)],
) -> rusqlite::Result<()> {
    let columns = Row::COLUMNS;
    let mut find = transaction.prepare(&format!(
        "SELECT {columns} FROM costs WHERE crate = ?1 AND profile = ?2 AND variant = ?3"
    ))?;
    let mut put = transaction.prepare(&format!(
        "INSERT OR REPLACE INTO costs (crate, {columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    ))?;
    let mut bounds = Bounds::prepare(transaction, day)?;
    // Kept in between, too, so that the file stays small whatever is recorded at once.
    for chunk in measured.chunks(CHUNK) {
        let mut has_grown = false;
        for (key, measured) in chunk {
            if *measured == Measured::default() {
                continue;
            }
            let [krate, profile, variant] =
                [key.krate, key.profile, key.variant].map(u64::cast_signed);
            let old = find
                .query_row([krate, profile, variant], Row::read)
                .optional()?
                .flatten();
            let is_new = old.is_none();
            let new = old.unwrap_or_default().averaged_with(*measured);
            let [frontend, codegen, link] = new.phases.map(|us| us.map(u64::cast_signed));
            let builds = i64::from(new.builds);
            put.execute(params![
                krate, profile, variant, frontend, codegen, link, builds, day
            ])?;
            if is_new {
                has_grown = true;
                bounds.keep_in_crate(krate)?;
            }
        }
        if has_grown {
            bounds.keep(max_rows)?;
        }
    }
    Ok(())
}

/// Removes what was measured longest ago where there is too much.
struct Bounds<'a> {
    today: i64,
    count: Statement<'a>,
    /// The rows behind the first so many.
    delete: Statement<'a>,
    count_of_crate: Statement<'a>,
    delete_of_crate: Statement<'a>,
}

impl<'a> Bounds<'a> {
    fn prepare(transaction: &'a Transaction<'_>, today: i64) -> rusqlite::Result<Self> {
        // With a day to come, from a clock that was wrong, a row would stay for ever.
        let latest_first = "ORDER BY CASE WHEN last_measured > ?1 THEN 0 ELSE last_measured END DESC, \
             builds DESC LIMIT -1 OFFSET ?2";
        Ok(Bounds {
            today,
            count: transaction.prepare("SELECT count(*) FROM costs")?,
            delete: transaction.prepare(&format!(
                "DELETE FROM costs WHERE (crate, profile, variant) IN \
                 (SELECT crate, profile, variant FROM costs {latest_first})"
            ))?,
            count_of_crate: transaction.prepare("SELECT count(*) FROM costs WHERE crate = ?1")?,
            delete_of_crate: transaction.prepare(&format!(
                "DELETE FROM costs WHERE crate = ?3 AND (profile, variant) IN \
                 (SELECT profile, variant FROM costs WHERE crate = ?3 {latest_first})"
            ))?,
        })
    }

    /// Removes an eighth and more when there are too many, so that this is not needed in each build.
    fn keep(&mut self, max_rows: i64) -> rusqlite::Result<()> {
        if self.count.query_row([], |row| row.get::<_, i64>(0))? > max_rows {
            self.delete.execute([self.today, max_rows - max_rows / 8])?;
        }
        Ok(())
    }

    fn keep_in_crate(&mut self, krate: i64) -> rusqlite::Result<()> {
        let rows: i64 = self.count_of_crate.query_row([krate], |row| row.get(0))?;
        if rows > MAX_ROWS_PER_CRATE {
            self.delete_of_crate
                .execute([self.today, MAX_ROWS_PER_CRATE, krate])?;
        }
        Ok(())
    }
}
