use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// The locks of a test with many writers are waited for as long as it takes.
const NO_HURRY: Duration = Duration::from_secs(600);

const SECRET: Identity<'_> = Identity {
    package: "moonshine-ledger",
    target: "moonshine_ledger",
    kind: "unmistakable-lib",
    mode: "unmistakable-build",
    profile: "unmistakable-profile",
    source: "path+file:///home/someone/moonshine",
    version: "13.37.42-unreleased",
    features: &["hidden-still", "false-bottom"],
    platform: "s390x-unknown-moon-gnu",
};

/// Where a test has its store, alone in a directory.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(".build-costs")
    }

    fn store(&self) -> Store {
        Store::at(self.path())
    }

    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.path()).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// A connection that knows nothing of how the store is used.
    fn sqlite(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn rows(&self) -> i64 {
        let count = "SELECT count(*) FROM costs";
        self.sqlite()
            .query_row(count, [], |row| row.get(0))
            .unwrap()
    }

    fn builds(&self, key: Key) -> i64 {
        self.sqlite()
            .query_row(
                "SELECT builds FROM costs WHERE crate = ?1 AND profile = ?2 AND variant = ?3",
                [key.krate, key.profile, key.variant].map(u64::cast_signed),
                |row| row.get(0),
            )
            .unwrap()
    }

    fn estimate(&self, key: Key) -> Option<Known> {
        let estimates = self.store().estimates(&[key]).unwrap();
        assert_eq!(estimates.len(), 1);
        estimates[0]
    }
}

fn key(krate: u64, profile: u64, variant: u64) -> Key {
    // As far apart as the keys of identities are.
    let spread = |n: u64| hash("test", &[&n.to_string()]);
    Key {
        krate: spread(krate),
        profile: spread(profile),
        variant: spread(variant),
    }
}

fn frontend(us: u64) -> Measured {
    Measured {
        frontend: Some(us),
        ..Measured::default()
    }
}

fn all(frontend: u64, codegen: u64, link: u64) -> Measured {
    Measured {
        frontend: Some(frontend),
        codegen: Some(codegen),
        link: Some(link),
    }
}

fn exact(measured: Measured) -> Option<Known> {
    Some(Known {
        measured,
        basis: Basis::Exact,
    })
}

/// The file is named, and so is what is wrong with it.
fn assert_error<T: std::fmt::Debug>(home: &Home, result: anyhow::Result<T>, what: &str) {
    let error = format!("{:#}", result.unwrap_err());
    assert!(
        error.contains(&home.path().display().to_string()),
        "{error}"
    );
    assert!(error.contains(what), "no `{what}` in `{error}`");
}

#[test]
fn each_part_of_an_identity_counts() {
    let key = Key::of(&SECRET);
    let with = |change: fn(&mut Identity<'_>)| {
        let mut other = SECRET;
        change(&mut other);
        let other = Key::of(&other);
        [
            other.krate == key.krate,
            other.profile == key.profile,
            other.variant == key.variant,
        ]
    };
    let (same, other_crate) = ([true; 3], [false, true, true]);
    let (other_profile, other_variant) = ([true, false, true], [true, true, false]);
    assert_eq!(with(|_| ()), same);
    assert_eq!(with(|id| id.package = "x"), other_crate);
    assert_eq!(with(|id| id.target = "x"), other_crate);
    assert_eq!(with(|id| id.kind = "x"), other_crate);
    assert_eq!(with(|id| id.mode = "x"), other_crate);
    assert_eq!(with(|id| id.profile = "x"), other_profile);
    assert_eq!(with(|id| id.source = "x"), other_variant);
    assert_eq!(with(|id| id.version = "x"), other_variant);
    assert_eq!(with(|id| id.platform = "x"), other_variant);
    assert_eq!(with(|id| id.features = &["hidden-still"]), other_variant);
    assert_eq!(
        with(|id| id.features = &["false-bottom", "hidden-still"]),
        same
    );
    assert_ne!(hash("crate", &["ab", "c"]), hash("crate", &["a", "bc"]));
    assert_ne!(hash("crate", &["a"]), hash("profile", &["a"]));
}

/// Files outlive releases: if this fails, [`VERSION`] must change.
#[test]
fn keys_are_the_same_in_every_release() {
    let key = Key::of(&SECRET);
    assert_eq!(
        (key.krate, key.profile, key.variant),
        (
            9239528416217133984,
            1799839495803727291,
            3227649185085608791
        )
    );
}

#[test]
fn what_is_recorded_comes_back_in_the_order_that_is_asked_for() {
    let home = Home::new();
    let (lib, bin, run) = (key(1, 1, 1), key(2, 1, 1), key(3, 1, 1));
    let of_lib = Measured {
        codegen: Some(20),
        ..frontend(10)
    };
    let of_run = frontend(7);
    home.store()
        .record(&[(lib, of_lib), (bin, all(1, 0, 3)), (run, of_run)])
        .unwrap();
    assert_eq!(
        home.store()
            .estimates(&[run, key(4, 1, 1), lib, bin, lib])
            .unwrap(),
        [
            exact(of_run),
            None,
            exact(of_lib),
            exact(all(1, 0, 3)),
            exact(of_lib)
        ]
    );
    assert_eq!(home.files(), [".build-costs"]);
}

#[test]
fn costs_are_smoothed() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    let mut known = Vec::new();
    for us in [100, 200, 300, 400, 400, 250, 100_250, 250, 250] {
        home.store().record(&[(unit, frontend(us))]).unwrap();
        known.push(home.estimate(unit).unwrap().measured.frontend.unwrap());
    }
    assert_eq!(
        known,
        [100, 150, 200, 250, 287, 278, 25_271, 19_016, 14_325]
    );
    assert_eq!(home.builds(unit), 9);
}

#[test]
fn only_what_was_measured_changes() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    home.store().record(&[(unit, all(10, 20, 30))]).unwrap();
    home.store()
        .record(&[(unit, frontend(20)), (unit, Measured::default())])
        .unwrap();
    assert_eq!(home.estimate(unit), exact(all(15, 20, 30)));
    assert_eq!(home.builds(unit), 2);
}

#[test]
fn nearer_is_better() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    let estimate = || {
        let estimate = home.estimate(unit)?;
        Some((estimate.basis, estimate.measured.frontend?))
    };
    let record = |key, us, day| {
        home.store().record_on(day, &[(key, frontend(us))]).unwrap();
    };
    record(key(2, 1, 1), 1, 9);
    assert_eq!(estimate(), None, "another crate says nothing");

    record(key(1, 2, 3), 10, 5);
    assert_eq!(estimate(), Some((Basis::OtherProfile, 10)));
    record(key(1, 2, 4), 20, 4);
    assert_eq!(estimate(), Some((Basis::OtherProfile, 10)), "the latest");
    record(key(1, 3, 1), 30, 1);
    assert_eq!(
        estimate(),
        Some((Basis::OtherProfile, 30)),
        "the very variant"
    );

    record(key(1, 1, 5), 40, 2);
    assert_eq!(estimate(), Some((Basis::OtherVersion, 40)));
    record(key(1, 1, 6), 50, 3);
    assert_eq!(estimate(), Some((Basis::OtherVersion, 50)), "the latest");

    record(unit, 60, 0);
    assert_eq!(estimate(), Some((Basis::Exact, 60)));
}

#[test]
fn each_phase_is_estimated_from_the_nearest_that_knows_it() {
    let home = Home::new();
    let of_other_version = Measured {
        codegen: Some(20),
        ..Measured::default()
    };
    home.store()
        .record(&[
            (key(1, 2, 1), all(100, 200, 300)),
            (key(1, 1, 2), of_other_version),
            (key(1, 1, 1), frontend(1)),
        ])
        .unwrap();
    assert_eq!(
        home.estimate(key(1, 1, 1)),
        Some(Known {
            measured: all(1, 20, 300),
            basis: Basis::OtherProfile
        })
    );
}

#[test]
fn another_profile_is_scaled_by_what_is_known_under_both() {
    let home = Home::new();
    let (dev, release, bench) = (1, 2, 3);
    let mut measured = Vec::new();
    for krate in 10..15 {
        measured.push((key(krate, dev, 1), all(100, 100, 100)));
        // Another version, and some phases only.
        measured.push((
            key(krate, release, 2),
            Measured {
                frontend: Some(110),
                codegen: Some(100_000),
                link: None,
            },
        ));
    }
    measured.push((key(1, dev, 1), all(1_000, 2_000, 3_000)));
    home.store().record(&measured).unwrap();
    let known = |profile| {
        let estimate = home.estimate(key(1, profile, 1)).unwrap();
        (estimate.basis, estimate.measured)
    };
    assert_eq!(
        known(release),
        // Not by more than a factor that can be believed.
        (Basis::OtherProfile, all(1_100, 2_000 * MAX_RATIO, 3_000))
    );
    assert_eq!(
        known(bench),
        (Basis::OtherProfile, all(1_000, 2_000, 3_000))
    );
    // The other way round.
    home.store()
        .record(&[(key(2, release, 1), all(1_100, 2_000, 3_000))])
        .unwrap();
    assert_eq!(
        home.estimate(key(2, dev, 1)).unwrap().measured,
        all(1_000, 2_000 / MAX_RATIO, 3_000)
    );
}

#[test]
fn absurd_measurements_are_clamped() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    for _ in 0..3 {
        home.store()
            .record(&[(unit, all(0, u64::MAX, 1 << 63))])
            .unwrap();
    }
    assert_eq!(home.estimate(unit), exact(all(0, MAX_PHASE, MAX_PHASE)));
    let scaled = Ratio { from: 1, to: 16 }.apply(MAX_PHASE);
    assert_eq!(scaled, MAX_PHASE);
    let most = Ratio {
        from: 1,
        to: u64::MAX,
    };
    assert_eq!(most.apply(u64::MAX), MAX_PHASE);
    assert_eq!(Ratio { from: 0, to: 5 }.apply(7), 7);
}

#[test]
fn absurd_values_in_the_file_are_unknown_or_clamped() {
    let home = Home::new();
    let (unit, release, other) = (key(1, 1, 1), key(1, 2, 1), key(2, 1, 1));
    let record = |us| home.store().record(&[(unit, all(us, us, us))]).unwrap();
    for (value, known) in [
        ("-1", None),
        ("-9223372036854775808", None),
        ("9223372036854775807", Some(MAX_PHASE)),
        ("0", Some(0)),
        ("NULL", None),
        ("'soon'", None),
        ("1.5", None),
        ("9e999", None),
        ("x'00ff'", None),
    ] {
        home.store()
            .record(&[(unit, all(5, 5, 5)), (other, all(5, 5, 5))])
            .unwrap();
        let columns = ["frontend", "codegen", "link"].map(|column| format!("{column} = {value}"));
        let edit = format!("UPDATE costs SET {}", columns.join(","));
        home.sqlite().execute_batch(&edit).unwrap();
        let measured = Measured::from_array([known; PHASES]);
        assert_eq!(home.estimate(unit), known.and(exact(measured)), "{value}");
        // Also where it is scaled.
        let estimate = home.estimate(release);
        assert_eq!(
            estimate.map(|estimate| estimate.measured),
            known.map(|_| measured)
        );
        home.store().record(&[(release, all(3, 3, 3))]).unwrap();
        home.estimate(key(2, 2, 1));
        // Corrected, or on the way.
        record(7);
        let now = home.estimate(unit).unwrap().measured.frontend.unwrap();
        assert!(now == 7 || known.is_some_and(|known| now.abs_diff(7) < known.abs_diff(7)));
        home.sqlite().execute_batch("DELETE FROM costs").unwrap();
    }

    for value in ["-1", "0", "9223372036854775807", "'often'", "0.5", "x''"] {
        record(5);
        home.sqlite()
            .execute_batch(&format!(
                "UPDATE costs SET builds = {value}, last_measured = {value}"
            ))
            .unwrap();
        record(5);
        assert_eq!(home.estimate(unit), exact(all(5, 5, 5)), "{value}");
        assert!(home.builds(unit) >= 1);
    }

    // A row that is about nothing does no harm.
    for column in ["crate", "profile", "variant"] {
        record(5);
        home.sqlite()
            .execute_batch(&format!("UPDATE costs SET {column} = 'mine'"))
            .unwrap();
        assert_eq!(home.estimate(unit), None, "{column}");
        home.estimate(release);
        record(9);
        assert_eq!(home.estimate(unit), exact(all(9, 9, 9)), "{column}");
    }
}

#[test]
fn nothing_is_created_to_read_or_to_record_nothing() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    assert_eq!(home.store().estimates(&[unit, unit]).unwrap(), [None, None]);
    home.store().record(&[(unit, Measured::default())]).unwrap();
    home.store().record(&[]).unwrap();
    assert!(home.files().is_empty());
}

#[cfg(unix)]
#[test]
fn the_file_is_for_the_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.store().record(&[(key(1, 1, 1), frontend(1))]).unwrap();
    let mode = || fs::metadata(home.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    // What the user has decided since stands.
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o640)).unwrap();
    home.store().record(&[(key(1, 1, 1), frontend(1))]).unwrap();
    assert_eq!(mode(), 0o640);
}

#[cfg(unix)]
#[test]
fn the_file_may_be_elsewhere() {
    let (home, elsewhere) = (Home::new(), Home::new());
    std::os::unix::fs::symlink(elsewhere.path(), home.path()).unwrap();
    let unit = key(1, 1, 1);
    assert_eq!(home.estimate(unit), None);
    home.store().record(&[(unit, frontend(1))]).unwrap();
    assert_eq!(elsewhere.estimate(unit), exact(frontend(1)));
    assert!(fs::symlink_metadata(home.path()).unwrap().is_symlink());
}

#[test]
fn no_name_is_in_the_file() {
    let home = Home::new();
    let unit = Key::of(&SECRET);
    home.store().record(&[(unit, frontend(1))]).unwrap();
    assert_eq!(home.estimate(unit), exact(frontend(1)));
    let bytes = fs::read(home.path()).unwrap();
    let contains = |name: &str| {
        bytes
            .windows(name.len())
            .any(|window| window == name.as_bytes())
    };
    for name in [
        "moonshine",
        "unmistakable",
        "someone",
        "13.37",
        "hidden",
        "bottom",
        "s390x",
    ] {
        assert!(!contains(name), "{name}");
    }
    assert!(contains("frontend"), "this test finds what is there");
}

/// Files that are no store, and what reading them says.
fn broken_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let made_by = |make: &dyn Fn(&Home)| {
        let home = Home::new();
        make(&home);
        fs::read(home.path()).unwrap()
    };
    let sql = |sql: &str| made_by(&|home| home.sqlite().execute_batch(sql).unwrap());
    let edited = |sql: &str| {
        made_by(&|home| {
            home.store().record(&many(200)).unwrap();
            home.sqlite().execute_batch(sql).unwrap();
        })
    };
    let good = edited("");
    let page = 4096;
    let garbage = |len| {
        (0..len)
            .map(|n: usize| (n * 7 + 3) as u8)
            .collect::<Vec<_>>()
    };
    let with = |range: std::ops::Range<usize>| {
        let mut bytes = good.clone();
        let len = range.len();
        bytes[range].copy_from_slice(&garbage(len));
        bytes
    };
    let (damaged, foreign) = ("it is damaged", "it holds something else");
    vec![
        ("two bytes", b"SQ".into(), damaged),
        ("text", b"[build]\njobs = 1\n".repeat(10), damaged),
        ("garbage", garbage(3 * page), damaged),
        ("zeros", vec![0; 2 * page], damaged),
        (
            "no more than the first half",
            good[..good.len() / 2].into(),
            damaged,
        ),
        ("no more than a page", good[..page].into(), damaged),
        ("no more than a header", good[..100].into(), damaged),
        ("garbage in the header", with(20..100), damaged),
        ("garbage in the schema", with(100..page), damaged),
        ("garbage behind the schema", with(page..good.len()), damaged),
        (
            "an older version",
            edited("PRAGMA user_version = 0"),
            foreign,
        ),
        (
            "a newer version",
            edited("PRAGMA user_version = 2"),
            foreign,
        ),
        (
            "another application",
            edited("PRAGMA application_id = 7"),
            foreign,
        ),
        (
            "one more column",
            edited("ALTER TABLE costs ADD COLUMN x"),
            foreign,
        ),
        ("one more table", edited("CREATE TABLE x (x)"), foreign),
        (
            "a trigger",
            edited("CREATE TRIGGER x BEFORE INSERT ON costs BEGIN SELECT RAISE(FAIL, 'x'); END"),
            foreign,
        ),
        ("no index", edited("DROP INDEX costs_by_profile"), foreign),
        (
            "no table",
            edited("DROP TABLE costs; CREATE TABLE x (x)"),
            foreign,
        ),
        (
            "another database",
            sql("CREATE TABLE costs (crate TEXT)"),
            foreign,
        ),
        (
            "another database with other pages and letters",
            sql("PRAGMA page_size = 512; PRAGMA encoding = 'UTF-16'; CREATE TABLE t (t)"),
            foreign,
        ),
        (
            "another database with a log",
            sql("PRAGMA journal_mode = WAL; CREATE TABLE t (t); PRAGMA wal_checkpoint"),
            foreign,
        ),
    ]
}

fn many(crates: u64) -> Vec<(Key, Measured)> {
    (0..crates)
        .map(|krate| (key(krate, 1, 1), all(1, 2, 3)))
        .collect()
}

#[test]
fn what_is_no_store_is_not_used_and_is_replaced_when_something_is_recorded() {
    let (unit, us) = (key(1, 1, 1), frontend(77));
    for (what, bytes, message) in broken_files() {
        // Whether it was read before or not.
        for reads_first in [true, false] {
            let home = Home::new();
            fs::write(home.path(), &bytes).unwrap();
            let store = home.store();
            if reads_first {
                assert_error(&home, store.estimates(&[unit]), message);
                assert!(
                    fs::read(home.path()).unwrap() == bytes,
                    "{what}: changed to read it"
                );
            }
            store
                .record(&[(unit, us)])
                .unwrap_or_else(|error| panic!("{what}: {error:#}"));
            assert_eq!(store.estimates(&[unit]).unwrap(), [exact(us)], "{what}");
            assert_eq!(home.rows(), 1, "{what}");
            assert_eq!(home.files(), [".build-costs"], "{what}");
            store.record(&[(unit, us)]).unwrap();
            assert_eq!(home.builds(unit), 2, "{what}: replaced twice");
        }
    }
}

#[test]
fn what_another_process_has_replaced_is_not_replaced_again() {
    let home = Home::new();
    let (unit, store) = (key(1, 1, 1), home.store());
    fs::write(home.path(), "not a store").unwrap();
    assert_error(&home, store.estimates(&[unit]), "it is damaged");
    home.store().record(&many(10)).unwrap();
    store.record(&[(unit, all(5, 6, 7))]).unwrap();
    assert_eq!((home.rows(), home.builds(unit)), (10, 2));
}

#[test]
fn a_header_that_forbids_to_write_is_damage() {
    let home = Home::new();
    home.store().record(&many(10)).unwrap();
    let mut bytes = fs::read(home.path()).unwrap();
    // "File format write version" in <https://www.sqlite.org/fileformat2.html>.
    bytes[18] = 9;
    fs::write(home.path(), &bytes).unwrap();
    let unit = key(1, 1, 1);
    assert_eq!(home.estimate(unit), exact(all(1, 2, 3)));
    home.store().record(&[(unit, frontend(7))]).unwrap();
    assert_eq!(home.estimate(unit), exact(frontend(7)));
}

#[test]
fn an_empty_file_is_a_store_that_knows_nothing() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    for sql in [
        "",
        "PRAGMA application_id = 7; CREATE TABLE x (x); DROP TABLE x",
    ] {
        fs::write(home.path(), "").unwrap();
        home.sqlite().execute_batch(sql).unwrap();
        assert_eq!(home.estimate(unit), None);
        home.store().record(&[(unit, frontend(1))]).unwrap();
        assert_eq!(home.estimate(unit), exact(frontend(1)));
    }
}

#[test]
fn damage_that_only_a_reader_comes_by_is_replaced_too() {
    let home = Home::new();
    home.store().record(&many(1_000)).unwrap();
    let good = fs::read(home.path()).unwrap();
    let (unit, us) = (key(5_000, 1, 1), frontend(77));
    let mut found = false;
    for page in 1..good.len() / 4096 {
        let mut bytes = good.clone();
        bytes[page * 4096..][..4096].fill(0xa5);
        fs::write(home.path(), &bytes).unwrap();
        // The damaged page is not one that this record needs.
        if home.store().record(&[(unit, us)]).is_err()
            || home
                .sqlite()
                .query_row(
                    "SELECT count(*) FROM costs INDEXED BY costs_by_profile",
                    [],
                    |row| row.get::<_, i64>(0),
                )
                .is_err()
            || home.rows() < 1_000
        {
            continue;
        }
        let store = home.store();
        let keys: Vec<Key> = many(1_000).iter().map(|(key, _)| *key).collect();
        let Err(_) = store.estimates(&keys) else {
            continue;
        };
        found = true;
        store.record(&[(unit, us)]).unwrap();
        assert_eq!(home.rows(), 1);
        store.estimates(&keys).unwrap();
    }
    assert!(found);
}

#[test]
fn what_cannot_be_a_file_is_an_error() {
    let unit = key(1, 1, 1);
    let home = Home::new();
    fs::create_dir(home.path()).unwrap();
    let what = "it is not a regular file";
    assert_error(&home, home.store().estimates(&[unit]), what);
    assert_error(&home, home.store().record(&[(unit, frontend(1))]), what);

    let home = Home::new();
    let store = Store::at(home.path().join("below"));
    // The directory is not there: nothing is known, and it is not for us to create it.
    assert_eq!(store.estimates(&[unit]).unwrap(), [None]);
    assert_error(
        &home,
        store.record(&[(unit, frontend(1))]),
        "unable to open",
    );
    assert!(home.files().is_empty());
    // It is a file.
    home.store().record(&[(unit, frontend(1))]).unwrap();
    assert_error(&home, store.record(&[(unit, frontend(1))]), "below");
    assert_eq!(home.files(), [".build-costs"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let home = Home::new();
    let made = Command::new("mkfifo").arg(home.path()).status().unwrap();
    assert!(made.success());
    let unit = key(1, 1, 1);
    let what = "it is not a regular file";
    assert_error(&home, home.store().estimates(&[unit]), what);
    assert_error(&home, home.store().record(&[(unit, frontend(1))]), what);
}

/// Whoever may do anything, root for example, makes this test say nothing.
#[cfg(unix)]
#[test]
fn what_may_not_be_written_to_can_be_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let unit = key(1, 1, 1);
    home.store().record(&[(unit, frontend(1))]).unwrap();
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(&home.path(), 0o400);
    if fs::OpenOptions::new().write(true).open(home.path()).is_ok() {
        return;
    }
    assert_eq!(home.estimate(unit), exact(frontend(1)));
    let record = || home.store().record(&[(unit, frontend(1))]);
    assert_error(&home, record(), "readonly");
    permit(&home.path(), 0o000);
    assert_error(&home, home.store().estimates(&[unit]), "unable to open");
    assert_error(&home, record(), "unable to open");
    permit(&home.path(), 0o600);
    permit(home.0.path(), 0o500);
    assert_eq!(home.estimate(unit), exact(frontend(1)));
    assert_error(&home, record(), "readonly");
    fs::write(home.path(), "not a store").unwrap();
    assert_error(&home, record(), "not a database");
    fs::write(home.path(), "").unwrap();
    permit(home.0.path(), 0o700);
    fs::remove_file(home.path()).unwrap();
    permit(home.0.path(), 0o500);
    assert_eq!(home.estimate(unit), None);
    assert_error(&home, record(), "unable to open");
    permit(home.0.path(), 0o700);
    record().unwrap();
}

#[test]
fn a_file_that_is_deleted_is_created_again() {
    let home = Home::new();
    let (unit, store) = (key(1, 1, 1), home.store());
    store.record(&[(unit, frontend(1))]).unwrap();
    fs::remove_file(home.path()).unwrap();
    assert_eq!(store.estimates(&[unit]).unwrap(), [None]);
    store.record(&[(unit, frontend(9))]).unwrap();
    assert_eq!(store.estimates(&[unit]).unwrap(), [exact(frontend(9))]);
}

#[test]
fn a_lock_is_not_waited_for_for_ever() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    let mut store = home.store();
    store.patience = Duration::ZERO;
    store.record(&[(unit, frontend(1))]).unwrap();

    let other = home.sqlite();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_error(&home, store.estimates(&[unit]), "locked");
    assert_error(&home, store.record(&[(unit, frontend(2))]), "locked");

    // Another writes, and we may still read; another reads, and we must not write.
    other.execute_batch("ROLLBACK; BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.estimates(&[unit]).unwrap(), [exact(frontend(1))]);
    assert_error(&home, store.record(&[(unit, frontend(2))]), "locked");
    other
        .execute_batch("ROLLBACK; BEGIN; SELECT * FROM costs")
        .unwrap();
    assert_eq!(store.estimates(&[unit]).unwrap(), [exact(frontend(1))]);
    assert_error(&home, store.record(&[(unit, frontend(2))]), "locked");

    // Nothing of all that was recorded, and nothing was taken for damage.
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(home.builds(unit), 1);
    store.record(&[(unit, frontend(3))]).unwrap();
    assert_eq!(home.estimate(unit), exact(frontend(2)));
}

#[test]
fn a_file_that_is_no_store_and_locked_is_left_alone() {
    let home = Home::new();
    home.sqlite().execute_batch("CREATE TABLE t (t)").unwrap();
    let other = home.sqlite();
    other.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    let mut store = home.store();
    store.patience = Duration::ZERO;
    let record = || store.record(&[(key(1, 1, 1), frontend(2))]);
    assert_error(&home, record(), "cannot be replaced");
    other.execute_batch("ROLLBACK").unwrap();
    record().unwrap();
}

#[test]
fn threads_write_at_once() {
    const THREADS: u64 = 8;
    const BUILDS: u64 = 20;
    let home = Home::new();
    let shared = key(1_000, 1, 1);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let home = &home;
            scope.spawn(move || {
                let mut store = home.store();
                store.patience = NO_HURRY;
                for build in 0..BUILDS {
                    let own = key(number, build, 1);
                    store
                        .record(&[(shared, frontend(10)), (own, frontend(build))])
                        .unwrap();
                    let estimates = store.estimates(&[own, shared]).unwrap();
                    assert_eq!(estimates, [exact(frontend(build)), exact(frontend(10))]);
                }
            });
        }
    });
    assert_eq!(home.builds(shared), (THREADS * BUILDS).cast_signed());
    assert_eq!(home.rows(), 1 + (THREADS * BUILDS).cast_signed());
}

const CHILD_STORE: &str = "TEST_COSTS_STORE";
const CHILD_BUILDS: &str = "TEST_COSTS_BUILDS";

/// Not a test, but what [`spawn`] runs: records the same units in each build, and says so after each.
#[test]
fn child() {
    let (Ok(path), Ok(builds)) = (std::env::var(CHILD_STORE), std::env::var(CHILD_BUILDS)) else {
        return;
    };
    let mut store = Store::at(path);
    store.patience = NO_HURRY;
    for build in 0..builds.parse::<u64>().unwrap() {
        store.record(&many(100)).unwrap();
        // The first line of output is the test runner's until we end it.
        writeln!(io::stdout(), "\nrecorded {build}").unwrap();
    }
}

fn spawn(home: &Home, builds: u64) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("{module}::child"), "--exact", "--nocapture"])
        .env(CHILD_STORE, home.path())
        .env(CHILD_BUILDS, builds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn processes_write_at_once() {
    let home = Home::new();
    let children: Vec<Child> = (0..3).map(|_| spawn(&home, 10)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(home.rows(), 100);
    for (unit, measured) in many(100) {
        assert_eq!(home.builds(unit), 30);
        assert_eq!(home.estimate(unit), exact(measured));
    }
}

#[test]
fn a_killed_process_leaves_a_store() {
    let home = Home::new();
    for said in 1..=10 {
        let mut child = spawn(&home, u64::MAX);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let recorded = lines
            .map(Result::unwrap)
            .filter(|line| line.starts_with("recorded"))
            .take(said);
        assert_eq!(recorded.count(), said);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = home.store();
        let keys: Vec<Key> = many(100).iter().map(|(key, _)| *key).collect();
        let estimates = store.estimates(&keys).unwrap();
        assert!(
            estimates
                .iter()
                .all(|estimate| *estimate == exact(all(1, 2, 3)))
        );
        store.record(&many(100)).unwrap();
        let check = "PRAGMA integrity_check";
        let answer: String = home
            .sqlite()
            .query_row(check, [], |row| row.get(0))
            .unwrap();
        assert_eq!(answer, "ok");
    }
}

/// Units whose rows are as long as rows can be.
fn flood(crates: std::ops::Range<u64>) -> Vec<(Key, Measured)> {
    let longest = all(u64::MAX, u64::MAX, u64::MAX);
    crates
        .map(|krate| (key(krate, krate, krate), longest))
        .collect()
}

#[test]
fn the_file_does_not_grow_without_bound() {
    let home = Home::new();
    let mut store = home.store();
    store.limits.rows = 800;
    let used = key(u64::MAX, 1, 1);
    for day in 1..=10 {
        // More than there is room for, in one build and in several.
        for build in 0..3 {
            let first = (day * 3 + build) * 600;
            let mut measured = flood(first..first + 600);
            measured.push((used, frontend(1)));
            store.record_on(day.cast_signed(), &measured).unwrap();
        }
        assert!((700..=800).contains(&home.rows()));
        let size = fs::metadata(home.path()).unwrap().len();
        let of_all = size * LIMITS.rows.cast_unsigned() / 800;
        assert!(of_all < LIMITS.bytes, "{of_all}");
        let yesterday = "SELECT count(*) FROM costs WHERE last_measured < ?1";
        let yesterday: i64 = home
            .sqlite()
            .query_row(yesterday, [day.cast_signed()], |row| row.get(0))
            .unwrap();
        assert_eq!(yesterday, 0, "the oldest go first");
        assert_eq!(
            home.estimate(used),
            exact(frontend(1)),
            "the often used stay"
        );
    }
}

#[test]
fn a_build_that_is_too_large_for_the_file_does_not_make_it_grow() {
    let home = Home::new();
    let mut store = home.store();
    store.limits.rows = 800;
    let several_chunks = 5 * CHUNK as u64 + 1;
    store.record(&flood(0..several_chunks)).unwrap();
    assert!((700..=800).contains(&home.rows()));
    // What one chunk takes, if pages are half empty.
    assert!(fs::metadata(home.path()).unwrap().len() < (CHUNK as u64 + 800) * 200);
}

#[test]
fn no_file_is_larger_than_it_may_be() {
    let home = Home::new();
    let mut store = home.store();
    store.record(&many(10)).unwrap();
    store.limits.bytes = 25 * 4096;
    assert_error(&home, store.record(&flood(0..2_000)), "full");
    assert!(fs::metadata(home.path()).unwrap().len() <= store.limits.bytes);
    assert_eq!(home.rows(), 10);
}

#[test]
fn what_was_measured_longest_ago_goes_first() {
    let home = Home::new();
    let mut store = home.store();
    store.limits.rows = 80;
    let [old, of_a_wrong_clock, recent] = [1_000, 1_001, 1_002].map(|krate| key(krate, 1, 1));
    store.record_on(10, &[(old, frontend(1))]).unwrap();
    store
        .record_on(99, &[(of_a_wrong_clock, frontend(1))])
        .unwrap();
    store.record_on(11, &flood(0..78)).unwrap();
    assert_eq!(home.rows(), 80);
    store.record_on(12, &[(recent, frontend(1))]).unwrap();
    assert_eq!(home.rows(), 70);
    assert_eq!(home.estimate(old), None);
    assert_eq!(home.estimate(of_a_wrong_clock), None);
    assert_eq!(home.estimate(recent), exact(frontend(1)));
}

#[test]
fn a_file_that_is_too_large_is_replaced() {
    let home = Home::new();
    let unit = key(1, 1, 1);
    home.store().record(&many(10)).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(home.path())
        .unwrap();
    file.set_len(LIMITS.bytes + 4096).unwrap();
    drop(file);
    assert_eq!(home.estimate(unit), exact(all(1, 2, 3)));
    home.store().record(&[(unit, frontend(1))]).unwrap();
    assert_eq!(home.rows(), 1);
    assert!(fs::metadata(home.path()).unwrap().len() < 100_000);
}

#[test]
fn a_crate_does_not_crowd_out_others() {
    let home = Home::new();
    for day in 0..100 {
        let variant = key(1, 1, day);
        home.store()
            .record_on(day.cast_signed(), &[(variant, frontend(day))])
            .unwrap();
        assert_eq!(home.estimate(variant), exact(frontend(day)));
    }
    assert_eq!(home.rows(), MAX_ROWS_PER_CRATE);
    let first = home.estimate(key(1, 1, 0)).unwrap();
    assert_eq!(
        (first.basis, first.measured),
        (Basis::OtherVersion, frontend(99))
    );
}

fn any_measured() -> impl Strategy<Value = Measured> {
    let us = || proptest::option::of(prop_oneof![0..1_000_000_u64, any::<u64>()]);
    (us(), us(), us()).prop_map(|phases| Measured::from_array(phases.into()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn estimates_are_between_what_was_recorded(
        builds in proptest::collection::vec(
            proptest::collection::vec((0..3_u64, any_measured()), 0..5),
            0..8,
        )
    ) {
        let home = Home::new();
        for build in &builds {
            let measured: Vec<_> = build.iter().map(|(unit, measured)| (key(*unit, 1, 1), *measured)).collect();
            home.store().record(&measured).unwrap();
        }
        for unit in 0..3 {
            let known = home.estimate(key(unit, 1, 1)).map(|estimate| estimate.measured);
            let known = known.unwrap_or_default().to_array();
            for (phase, us) in known.into_iter().enumerate() {
                let recorded = builds
                    .iter()
                    .flatten()
                    .filter(|(of, _)| *of == unit)
                    .filter_map(|(_, measured)| measured.to_array()[phase])
                    .map(|us| us.min(MAX_PHASE));
                let (min, max) = (recorded.clone().min(), recorded.max());
                prop_assert_eq!(us.is_some(), min.is_some());
                prop_assert!(min <= us && us <= max, "{us:?} is not in {min:?}..={max:?}");
            }
        }
    }

    #[test]
    fn any_damage_is_survived(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
        in_header in proptest::collection::vec((0..100_usize, any::<u8>()), 0..3),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let home = Home::new();
        home.store().record(&many(150)).unwrap();
        let mut bytes = fs::read(home.path()).unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for (at, value) in in_header {
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(home.path(), &bytes).unwrap();
        let store = home.store();
        let keys: Vec<Key> = many(200).iter().map(|(key, _)| *key).collect();
        // The second reader may come by damage that the first writer did not.
        for _ in 0..2 {
            if let Ok(estimates) = store.estimates(&keys) {
                prop_assert_eq!(estimates.len(), keys.len());
                for measured in estimates.iter().flatten().map(|estimate| estimate.measured) {
                    prop_assert!(measured.to_array().iter().flatten().all(|us| *us <= MAX_PHASE));
                }
            }
            store.record(&many(200)).unwrap();
        }
        store.estimates(&keys).unwrap();
    }
}

proptest! {
    #[test]
    fn an_average_is_between(old: Option<u64>, builds: u32, new: Option<u64>) {
        let old = old.map(|old| old.min(MAX_PHASE));
        let average = smooth(old, builds, new);
        let new = new.map(|new| new.min(MAX_PHASE));
        prop_assert_eq!(average.is_some(), old.or(new).is_some());
        if let Some(average) = average {
            let (old, new) = (old.or(new).unwrap(), new.or(old).unwrap());
            prop_assert!((old.min(new)..=old.max(new)).contains(&average));
        }
    }
}
