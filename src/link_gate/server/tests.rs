use super::super::shim::{Answer, ask};
use super::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, Sender, channel};

const NOTHING: [u8; 0] = [];
/// No test waits so long.
const LONG: Duration = Duration::from_secs(60);

fn any_file() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// A parking whose senders can be had.
fn parking() -> (Parking, Receiver<PermitSender>) {
    let (sender, parked): (Sender<_>, _) = channel();
    let say = move |permit| {
        // The test may have ended.
        let _ = sender.send(permit);
    };
    (Parking::new(say), parked)
}

struct Fixture {
    gate: Gate,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Fixture::with_patience(LONG)
    }

    fn with_patience(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gate = Gate::with_patience(&dir.path().join("gate"), &any_file(), patience).unwrap();
        Fixture { gate, dir }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("gate").join(SOCKET)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn say(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream
    }
}

fn job_file(ticket: &Ticket) -> JobFile {
    let path = ticket.linker().parent().unwrap().join(JOB_FILE);
    JobFile::decode(&fs::read(path).unwrap()).unwrap()
}

fn hello(ticket: &Ticket, kind: Kind) -> [u8; HELLO_LEN] {
    job_file(ticket).hello(kind).encode()
}

/// All that the gate says until it closes the connection, however it does.
fn all(mut stream: UnixStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).map_err(|e| {
        assert_eq!(e.kind(), io::ErrorKind::ConnectionReset);
    });
    heard
}

fn one(stream: &mut UnixStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

/// Lets a shim through from its coming to its permit.
fn link(fixture: &Fixture) {
    let (parking, parked) = parking();
    let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
    let dir = fixture.gate.dir.clone();
    let hello = job_file(&ticket).hello(Kind::Parked);
    let shim = thread::spawn(move || ask(&dir, &hello).unwrap());
    parked.recv_timeout(LONG).unwrap().send(Permit::Link);
    assert_eq!(shim.join().unwrap(), Answer::Link);
    assert_eq!(ticket.close(), Report::Linked);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn any_thread_may_have_it() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<Gate>();
    assert_shared::<Ticket>();
}

#[test]
fn from_parked_to_linked() {
    let fixture = Fixture::new();
    let (parking, parked) = parking();
    let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
    let mut shim = fixture.say(&hello(&ticket, Kind::Parked));
    assert_eq!(one(&mut shim), ACKNOWLEDGED);
    let permit = parked.recv_timeout(LONG).unwrap();
    shim.set_nonblocking(true).unwrap();
    let nothing = shim.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    shim.set_nonblocking(false).unwrap();

    permit.send(Permit::Link);
    assert_eq!(all(shim), [LINK]);
    // Again, without some flags.
    let retried = fixture.say(&hello(&ticket, Kind::Parked));
    assert_eq!(all(retried), [ACKNOWLEDGED, LINK]);
    assert!(parked.try_recv().is_err());
    assert_eq!(ticket.close(), Report::Linked);
}

#[test]
fn an_abort_and_a_permit_that_is_dropped_end_the_wait() {
    let fixture = Fixture::new();
    for drop_it in [false, true] {
        let (parking, parked) = parking();
        let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
        let shim = fixture.say(&hello(&ticket, Kind::Parked));
        let permit = parked.recv_timeout(LONG).unwrap();
        match drop_it {
            true => drop(permit),
            false => permit.send(Permit::Abort),
        }
        assert_eq!(all(shim), [ACKNOWLEDGED]);
        let late = fixture.say(&hello(&ticket, Kind::Parked));
        assert_eq!(all(late), [REFUSED]);
        assert_eq!(ticket.close(), Report::Aborted);
    }
}

/// On the very thread that parks, under the lock of the gate.
#[test]
fn the_queue_may_answer_at_once() {
    let fixture = Fixture::new();
    for (permit, answer, report) in [
        (
            Some(Permit::Link),
            &[ACKNOWLEDGED, LINK][..],
            Report::Linked,
        ),
        (None, &[ACKNOWLEDGED][..], Report::Aborted),
    ] {
        let parking = Parking::new(move |sender| match permit {
            Some(permit) => sender.send(permit),
            None => drop(sender),
        });
        let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
        let shim = fixture.say(&hello(&ticket, Kind::Parked));
        assert_eq!(all(shim), answer);
        assert_eq!(ticket.close(), report);
    }
}

#[test]
fn notes() {
    let fixture = Fixture::new();
    let admit = || fixture.gate.admit(OsStr::new("cc"), parking().0).unwrap();
    let ticket = admit();
    let note = |ticket: &Ticket, kind| all(fixture.say(&hello(ticket, kind)));
    assert_eq!(note(&ticket, Kind::NotExecuted), [REFUSED]);
    assert_eq!(note(&ticket, Kind::Incomplete), [ACKNOWLEDGED]);
    assert_eq!(note(&ticket, Kind::Parked), [REFUSED]);
    assert_eq!(ticket.close(), Report::Incomplete);

    let parking = Parking::new(|sender| sender.send(Permit::Link));
    let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
    assert_eq!(note(&ticket, Kind::Parked), [ACKNOWLEDGED, LINK]);
    assert_eq!(note(&ticket, Kind::Incomplete), [REFUSED]);
    assert_eq!(note(&ticket, Kind::NotExecuted), [ACKNOWLEDGED]);
    assert_eq!(ticket.close(), Report::NotExecuted);

    assert_eq!(admit().close(), Report::Silent);
}

#[test]
fn a_second_shim_takes_the_place_of_a_dead_one_only() {
    let fixture = Fixture::new();
    let (parking, parked) = parking();
    let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
    let hello = hello(&ticket, Kind::Parked);
    let mut first = fixture.say(&hello);
    assert_eq!(one(&mut first), ACKNOWLEDGED);
    // Talkative, but alive.
    first.write_all(b"more").unwrap();
    assert_eq!(all(fixture.say(&hello)), [REFUSED]);
    drop(first);
    let mut second = fixture.say(&hello);
    assert_eq!(one(&mut second), ACKNOWLEDGED);
    let permit = parked.recv_timeout(LONG).unwrap();
    assert!(parked.try_recv().is_err(), "it is parked once");
    permit.send(Permit::Link);
    assert_eq!(all(second), [LINK]);
    assert_eq!(ticket.close(), Report::Linked);
}

#[test]
fn nothing_is_heard_of_a_closed_ticket() {
    let fixture = Fixture::new();
    let (parking, parked) = parking();
    let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
    let (dir, hello) = (
        ticket.linker().parent().unwrap().to_owned(),
        hello(&ticket, Kind::Parked),
    );
    let mut waiting = fixture.say(&hello);
    assert_eq!(one(&mut waiting), ACKNOWLEDGED);
    let permit = parked.recv_timeout(LONG).unwrap();
    assert_eq!(ticket.close(), Report::Parked);
    assert_eq!(all(waiting), NOTHING);
    assert!(!dir.exists());
    permit.send(Permit::Link);
    assert_eq!(all(fixture.say(&hello)), NOTHING);
    assert!(parked.recv().is_err(), "the gate has let go of it");

    let ticket = fixture
        .gate
        .admit(OsStr::new("cc"), parking_of_nobody())
        .unwrap();
    let dir = ticket.linker().parent().unwrap().to_owned();
    drop(ticket);
    assert!(!dir.exists());
}

fn parking_of_nobody() -> Parking {
    Parking::new(|_| panic!("nobody is to be parked"))
}

#[test]
fn hostile_connections_keep_nobody_out() {
    let fixture = Fixture::new();
    let ticket = fixture
        .gate
        .admit(OsStr::new("cc"), parking_of_nobody())
        .unwrap();
    let hello = hello(&ticket, Kind::Parked);
    let mut wrong_secret = hello;
    wrong_secret[HELLO_LEN - 2] ^= 1;
    let mut wrong_job = hello;
    wrong_job[8] = b'f';
    let oversized = [&hello[..], b"P"].concat();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 4096],
        &oversized,
        &wrong_secret,
        &wrong_job,
    ] {
        assert_eq!(all(fixture.say(bytes)), NOTHING, "{}", bytes.escape_ascii());
    }
    // Truncated.
    let truncated = fixture.say(&hello[..HELLO_LEN - 1]);
    truncated.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(truncated), NOTHING);

    // Those who say nothing, or half of it, and stay.
    let mut silent: Vec<_> = (0..MAX_UNKNOWN + 10)
        .map(|n| fixture.say(&hello[..n % HELLO_LEN]))
        .collect();
    link(&fixture);
    assert_eq!(all(silent.remove(0)), NOTHING, "the oldest went first");
    assert_eq!(ticket.close(), Report::Silent);
}

#[test]
fn a_thousand_connections_at_once() {
    let fixture = Fixture::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut held = VecDeque::new();
                for n in 0..250 {
                    held.push_back(fixture.say(&b"lnkgate1 and so on"[..n % 8]));
                    if held.len() > 100 {
                        held.pop_front();
                    }
                }
            });
        }
        for _ in 0..10 {
            link(&fixture);
        }
    });
    link(&fixture);
}

#[test]
fn one_that_says_nothing_is_dropped_in_time() {
    let fixture = Fixture::with_patience(Duration::from_millis(50));
    let first = fixture.connect();
    assert_eq!(all(first), NOTHING);
    link(&fixture);
}

#[test]
fn a_slow_hello_is_a_hello() {
    let fixture = Fixture::new();
    let parking = Parking::new(|sender| sender.send(Permit::Link));
    let ticket = fixture.gate.admit(OsStr::new("cc"), parking).unwrap();
    let mut shim = fixture.connect();
    for byte in hello(&ticket, Kind::Parked) {
        shim.write_all(&[byte]).unwrap();
        // Whose answer shows that the gate has gone round.
        assert_eq!(all(fixture.say(b"?")), NOTHING);
    }
    assert_eq!(all(shim), [ACKNOWLEDGED, LINK]);
}

#[test]
fn only_the_user_can_look_in() {
    let fixture = Fixture::new();
    let linker = OsStr::from_bytes(b"/opt/\xff tools/clang-15");
    let ticket = fixture.gate.admit(linker, parking_of_nobody()).unwrap();
    let shim = ticket.linker();
    let dir = shim.parent().unwrap();
    assert!(shim.is_absolute());
    assert_eq!(shim.file_name().unwrap(), "clang-15");
    assert_eq!(fs::read_link(shim).unwrap(), any_file());
    assert_eq!(job_file(&ticket).linker, linker);
    assert_eq!(mode(&fixture.gate.dir), 0o700);
    assert_eq!(mode(&fixture.gate.dir.join(SOCKET)), 0o600);
    assert_eq!(mode(dir), 0o700);
    assert_eq!(mode(&dir.join(JOB_FILE)), 0o600);
}

#[test]
fn not_the_name_of_a_linker() {
    let fixture = Fixture::new();
    for name in [
        "",
        "/",
        "..",
        "a/..",
        JOB_FILE,
        "/usr/bin/link-gate-job",
        "c\0c",
    ] {
        let error = fixture.gate.admit(OsStr::new(name), parking_of_nobody());
        assert!(error.is_err(), "{name:?}");
    }
    assert_eq!(fs::read_dir(&fixture.gate.dir).unwrap().count(), 1);
    assert!(fixture.gate.shared.lock().by_number.is_empty());
}

#[test]
fn a_closed_gate_leaves_nobody_waiting_and_nothing_on_disk() {
    let Fixture { gate, dir } = Fixture::new();
    let path = dir.path().join("gate");
    let (parking, parked) = parking();
    let ticket = gate.admit(OsStr::new("cc"), parking).unwrap();
    let hello = hello(&ticket, Kind::Parked);
    let mut waiting = UnixStream::connect(path.join(SOCKET)).unwrap();
    waiting.write_all(&hello).unwrap();
    let unknown = UnixStream::connect(path.join(SOCKET)).unwrap();
    let permit = parked.recv_timeout(LONG).unwrap();
    drop(gate);
    assert_eq!(all(waiting), [ACKNOWLEDGED]);
    assert_eq!(all(unknown), NOTHING);
    assert!(!path.exists());
    permit.send(Permit::Link);
    assert_eq!(ticket.close(), Report::Aborted);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn what_a_killed_cargo_has_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gate");
    fs::create_dir_all(path.join("job")).unwrap();
    fs::write(path.join("job/cc"), "").unwrap();
    UnixListener::bind(path.join(SOCKET)).unwrap();
    drop(Gate::open(&path, &any_file()).unwrap());
    fs::write(&path, "").unwrap();
    drop(Gate::open(&path, &any_file()).unwrap());
    // Not what is behind a link.
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("other/file"), "").unwrap();
    symlink(dir.path().join("other"), &path).unwrap();
    drop(Gate::open(&path, &any_file()).unwrap());
    assert!(dir.path().join("other/file").exists());
}

#[test]
fn no_gate_without_a_shim_or_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gate");
    for shim in [Path::new("cargo"), Path::new("/no such file"), dir.path()] {
        assert!(Gate::open(&path, shim).is_err());
    }
    assert!(!path.exists());
    assert!(Gate::open(&path.join("gate"), &any_file()).is_err());
}

/// Longer than what the address of a socket can hold, with spaces and bytes that are not UTF-8.
#[cfg(target_os = "linux")]
#[test]
fn a_long_and_odd_directory() {
    let dir = tempfile::tempdir().unwrap();
    let odd = OsString::from(OsStr::from_bytes(b"a dir \xff\xfe '\""));
    let mut path = dir.path().join(odd);
    for _ in 0..10 {
        path.push("a directory with quite a long name");
    }
    fs::create_dir_all(&path).unwrap();
    let gate = Gate::open(&path.join("gate"), &any_file()).unwrap();
    link(&Fixture { gate, dir });
    assert!(!path.join("gate").exists());
}

#[test]
fn an_odd_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(OsStr::from_bytes(b"\xff a"));
    let gate = Gate::open(&path, &any_file()).unwrap();
    link(&Fixture { gate, dir });
}
