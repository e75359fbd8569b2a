//! A clock that moves only when there is nothing left to do before its next alarm.
//!
//! A sleep takes as long as it should, and whatever the machine needs meanwhile, to start programs, to
//! run cargo, or for somebody else altogether, comes on top. Here the stand-ins do not sleep. Each asks
//! the clock to be woken, and the clock, when it has seen that cargo and all below it stand still, goes
//! to the next alarm at once:
//!
//! ```text
//!   stand-in of a   "wake me in 200 µs" ──┐
//!   stand-in of b   "wake me in  50 µs" ──┤   all quiet: it is 50 µs later, b wakes
//!   cargo           waits for messages    ┘   b ends, cargo starts c …      … all quiet: …
//! ```
//!
//! So a replay takes no longer than cargo does, and shows the same times on every machine, whatever
//! else runs there.
//!
//! Nor do stand-ins race for jobserver tokens. When all is quiet, whatever token is left is one that
//! cargo does not want; it goes to the unit with the fewest threads that could use another.
//!
//! # Who is stopped
//!
//! Cargo stops compilers and continues them. For a stand-in that is stopped no time passes: whatever it
//! has asked for is put off by as much as the others move on.
//!
//! # How it is known that all is quiet
//!
//! Linux shows where in the kernel each thread is asleep (`wchan`), and how often it was scheduled. One
//! thread wakes another, or a process its parent, by making it runnable, at once. If one look finds
//! every thread asleep, and the next one that none was scheduled meanwhile or is runnable, nothing was
//! under way when the first look ended: what was missed by looking at one thread after the other would
//! have been scheduled, or be runnable. Only a timeout that runs in cargo itself could still do
//! something, and those that there are change nothing about the build.
//!
//! The state of a thread would not do for the first look. A thread says that it is asleep before it goes
//! to sleep, may find a reason not to, and may lose its processor until it has.
//! And a thread that began while its process was looked at has not been looked at, so the second look
//! counts them.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The file in which the clock shows cargo what time it is.
const NOW: &str = "now";

/// In the environment of cargo: where the clock listens.
pub const CLOCK: &str = "REPLAY_CLOCK";

/// How long to wait before looking again whether all is quiet.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000,
};
/// After so many glances at one thread that is awake, all are looked at: by then it may be another one, of
/// another program, with the number of the first.
const MOST_GLANCES: u32 = 50;
/// How many milliseconds a thread may need to fall asleep.
const SLEEP_SEEN_WITHIN: u32 = 1000;
/// How long nothing may happen where nobody waits for the clock.
const STANDSTILL: Duration = Duration::from_secs(60);

/// A question of a stand-in: the place of the unit, after how many ns to answer, how many threads it
/// has if it could use another (otherwise 0), and whether it was just offered one and found none (1).
const QUESTION: usize = 32;
/// What time it is, whether the time has not come yet and it may take another token (1), and how many
/// ns are left of what was asked for.
const ANSWER: usize = 24;

/// The clock of one replay. It begins at 0.
#[derive(Debug)]
pub struct VirtualClock {
    listener: UnixListener,
    dir: PathBuf,
    now: u64,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    /// Its number.
    process: u32,
    stream: UnixStream,
    /// What has arrived of the next question.
    partial: Vec<u8>,
    asleep: Option<Sleep>,
    has_left: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sleep {
    until: u64,
    /// Of two that wake at the same time, the unit that comes first in the recording does.
    place: u64,
    /// How many it has, if it could use another.
    threads: Option<NonZero<u64>>,
}

impl VirtualClock {
    /// A clock that listens in `dir`, which must be short enough for the name of a socket.
    ///
    /// # Errors
    ///
    /// If it cannot listen there; or if the kernel does not tell what it has to know.
    pub fn new(dir: &Path) -> Result<Self> {
        if !is_available() {
            bail!(
                "a virtual clock needs a Linux that shows `children`, `schedstat` and `wchan` in \
                 /proc/PID/task/TID (CONFIG_PROC_CHILDREN, CONFIG_SCHED_INFO, CONFIG_KALLSYMS)"
            );
        }
        let listener = UnixListener::bind(dir.join("clock"))
            .with_context(|| format!("could not listen in {}", dir.display()))?;
        listener.set_nonblocking(true)?;
        show(dir, 0)?;
        Ok(VirtualClock {
            listener,
            dir: dir.to_path_buf(),
            now: 0,
            clients: Vec::new(),
        })
    }

    /// What [`CLOCK_FILE`](cargo_pipelining::scheduler::CLOCK_FILE) has to be for cargo.
    pub fn file(&self) -> PathBuf {
        self.dir.join(NOW)
    }

    /// What [`CLOCK`] has to be for cargo.
    pub fn address(&self) -> PathBuf {
        self.dir.join("clock")
    }

    /// Lets time pass until cargo ends. Blocks as long as that takes.
    ///
    /// # Errors
    ///
    /// If `/proc` does not tell what the processes do; or if nothing happens for a minute, and nothing
    /// is to: then cargo is killed.
    pub fn run(mut self, cargo: &mut Child) -> Result<ExitStatus> {
        let outcome = self.drive(cargo);
        if outcome.is_err() {
            // It may have ended by itself. What it has started ends as its pipes and sockets do.
            let _ = cargo.kill();
            let _ = cargo.wait();
        }
        outcome
    }

    fn drive(&mut self, cargo: &mut Child) -> Result<ExitStatus> {
        let mut last_look: Option<Look> = None;
        let mut reader = Reader::new();
        let mut moved = Instant::now();
        loop {
            if self.hear()? {
                last_look = None;
                moved = Instant::now();
            }
            if let Some(status) = cargo.try_wait()? {
                return Ok(status);
            }
            if self.is_anyone_awake() {
                last_look = None;
                self.wait()?;
                continue;
            }
            let Some(look) = last_look.take() else {
                last_look = Look::at(cargo.id(), &mut reader)?;
                if last_look.is_none() {
                    self.wait()?;
                }
                continue;
            };
            let Some(stopped) = look.still_holds(&mut reader)? else {
                self.wait()?;
                continue;
            };
            // Whoever has asked before the second look ended is heard first.
            if self.hear()? {
                continue;
            }
            if self.hand_out_tokens(&stopped)? && self.wake_next(&stopped)? {
                moved = Instant::now();
            } else if moved.elapsed() > STANDSTILL {
                bail!(
                    "the replay stands still: cargo waits, and nothing runs that it could wait for"
                );
            } else {
                self.wait()?;
            }
        }
    }

    /// Takes what has arrived. Says whether anything has.
    fn hear(&mut self) -> Result<bool> {
        let mut heard = false;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.clients.push(Client::new(stream)?);
                    heard = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("could not hear a stand-in"),
            }
        }
        for client in &mut self.clients {
            heard |= client.hear(self.now)? != Heard::Nothing;
        }
        self.clients.retain(|client| !client.has_left);
        Ok(heard)
    }

    /// Whether a stand-in is at something between two questions.
    fn is_anyone_awake(&self) -> bool {
        let mut awake = self.clients.iter().filter(|it| it.asleep.is_none());
        awake.any(|client| !client.is_stopped())
    }

    /// Has stand-ins take what tokens there are, one after the other. `false` if one of them has ended
    /// instead, which cargo will notice.
    ///
    /// A token less wakes nobody. So all is quiet again as soon as the one that was offered it asks for
    /// the next thing, and there is no need to look.
    fn hand_out_tokens(&mut self, stopped: &BTreeSet<u32>) -> Result<bool> {
        loop {
            let wanting = self.clients.iter_mut().filter_map(|client| {
                let sleep = client.asleep?;
                let key = (sleep.threads?, sleep.place);
                (!stopped.contains(&client.process)).then_some((key, client))
            });
            let Some((_, client)) = wanting.min_by_key(|(key, _)| *key) else {
                return Ok(true);
            };
            let left = client
                .asleep
                .take()
                .map_or(0, |sleep| sleep.until.saturating_sub(self.now));
            client.answer(self.now, Some(left))?;
            match client.hear_next(self.now)? {
                _ if client.has_left => return Ok(false),
                Heard::NoToken => return Ok(true),
                Heard::Something | Heard::Nothing => {}
            }
        }
    }

    /// Goes to the next alarm. `false` if there is none.
    fn wake_next(&mut self, stopped: &BTreeSet<u32>) -> Result<bool> {
        let sleeping = self.clients.iter_mut().filter(|it| it.asleep.is_some());
        let (put_off, asleep): (Vec<_>, Vec<_>) =
            sleeping.partition(|it| stopped.contains(&it.process));
        let Some(client) = asleep.into_iter().min_by_key(|client| client.asleep) else {
            return Ok(false);
        };
        let Some(sleep) = client.asleep.take() else {
            return Ok(false);
        };
        let passes = sleep.until.saturating_sub(self.now);
        for sleep in put_off.into_iter().filter_map(|it| it.asleep.as_mut()) {
            sleep.until += passes;
        }
        self.now += passes;
        show(&self.dir, self.now)?;
        client.answer(self.now, None)?;
        Ok(true)
    }

    /// Until something arrives, or it is time for another look.
    fn wait(&self) -> Result<()> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let streams = self.clients.iter().map(|client| &client.stream);
        fds.extend(streams.map(|stream| PollFd::new(stream, PollFlags::IN)));
        match poll(&mut fds, Some(&GLANCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error)).context("could not wait for stand-ins"),
        }
    }
}

impl Client {
    fn new(stream: UnixStream) -> Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(&stream);
        let peer = peer
            .map_err(io::Error::from)
            .context("nobody knows who a stand-in is")?;
        Ok(Client {
            process: peer.pid.as_raw_nonzero().get().unsigned_abs(),
            stream,
            partial: Vec::new(),
            asleep: None,
            has_left: false,
        })
    }

    /// Whether somebody has stopped it. One that is gone is not.
    fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process));
        let stat = stat.ok().and_then(|stat| Stat::parse(&stat));
        stat.is_some_and(|stat| stat.state == State::Stopped)
    }

    /// Blocks until it asks for something, or has ended.
    fn hear_next(&mut self, now: u64) -> Result<Heard> {
        loop {
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(io::Error::from(error)).context("could not wait for a stand-in");
                }
            }
            let heard = self.hear(now)?;
            if self.asleep.is_some() || self.has_left {
                return Ok(heard);
            }
        }
    }

    fn hear(&mut self, now: u64) -> Result<Heard> {
        let mut heard = Heard::Nothing;
        let mut buffer = [0; QUESTION];
        while !self.has_left {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.has_left = true,
                Ok(length) => self.partial.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.has_left = true;
                }
                Err(error) => return Err(error).context("could not hear a stand-in"),
            }
            heard = Heard::Something;
            if let Some((question, rest)) = self.partial.split_first_chunk::<QUESTION>() {
                let [place, after, threads, found_no_token] = numbers(question);
                self.partial = rest.to_vec();
                if found_no_token != 0 {
                    heard = Heard::NoToken;
                }
                if after == 0 {
                    self.answer(now, None)?;
                } else {
                    self.asleep = Some(Sleep {
                        until: now.saturating_add(after),
                        place,
                        threads: NonZero::new(threads),
                    });
                }
            }
        }
        Ok(heard)
    }

    /// It is so late, and the client may take a token if that is before its time, with so much left.
    fn answer(&mut self, now: u64, left: Option<u64>) -> Result<()> {
        let mut answer = [0; ANSWER];
        let numbers = [now, u64::from(left.is_some()), left.unwrap_or(0)];
        for (bytes, number) in answer.chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        match self.stream.write_all(&answer) {
            // It was killed, which its reader will see.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("could not answer a stand-in"),
        }
    }
}

/// Lets cargo read what time it is. ns.
fn show(dir: &Path, now: u64) -> Result<()> {
    let path = dir.join(NOW);
    // It may be read at any time, but never half.
    let beside = path.with_extension("new");
    fs::write(&beside, now.to_le_bytes())?;
    fs::rename(&beside, &path)?;
    Ok(())
}

/// What has arrived of a stand-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// It was offered a token, and there was none.
    NoToken,
    Something,
}

fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    numbers
}

/// What some processes looked like when all of their threads were asleep, or over.
#[derive(Debug)]
struct Look {
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    id: u32,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    id: u32,
    /// How often it was scheduled until it was seen asleep.
    scheduled: u64,
}

impl Look {
    /// Looks at a process and all that it has started. `None` if a thread is awake or has just ended,
    /// which somebody is about to hear.
    fn at(process: u32, reader: &mut Reader) -> Result<Option<Self>> {
        if reader.is_last_awake_still_awake()? {
            return Ok(None);
        }
        let mut processes = Vec::new();
        let mut left = vec![process];
        while let Some(process) = left.pop() {
            let Ok(dir) = std::fs::read_dir(format!("/proc/{process}/task")) else {
                return Ok(None);
            };
            let mut threads = Vec::new();
            for entry in dir {
                let Ok(entry) = entry else { return Ok(None) };
                let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else {
                    continue;
                };
                // In this order: what it does between the two has been done when it is asleep.
                let Some(scheduled) = reader.times_scheduled(process, id)? else {
                    return Ok(None);
                };
                if reader.is_asleep_or_over(process, id)? != Some(true) {
                    reader.last_awake = Some((process, id));
                    reader.glances = MOST_GLANCES;
                    return Ok(None);
                }
                threads.push(Thread { id, scheduled });
                let Some(children) = reader.read(process, id, "children") else {
                    return Ok(None);
                };
                left.extend(
                    children
                        .split_ascii_whitespace()
                        .flat_map(str::parse::<u32>),
                );
            }
            processes.push(Process {
                id: process,
                threads,
            });
        }
        Ok(Some(Look { processes }))
    }

    /// Looks again, and says which processes are stopped. `None` if a thread is not asleep, or was not
    /// all the time.
    fn still_holds(&self, reader: &mut Reader) -> Result<Option<BTreeSet<u32>>> {
        let mut stopped = BTreeSet::new();
        for process in &self.processes {
            for thread in &process.threads {
                let Some(stat) = reader.stat(process.id, thread.id)? else {
                    return Ok(None);
                };
                match stat.state {
                    State::Asleep | State::Over => {}
                    State::Stopped => {
                        stopped.insert(process.id);
                    }
                    State::Other => return Ok(None),
                }
                // If it was started while its process was looked at, nobody has looked at it.
                if stat.threads != process.threads.len() {
                    return Ok(None);
                }
                // After its state: if it runs between the two, that is seen.
                if reader.times_scheduled(process.id, thread.id)? != Some(thread.scheduled) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(stopped))
    }
}

/// Reads what the kernel tells of threads, of hundreds at a time: with no system call too many.
#[derive(Debug)]
struct Reader {
    buffer: Vec<u8>,
    /// The process and the thread that was awake when all were looked at. It may well be still.
    last_awake: Option<(u32, u32)>,
    /// How often nobody else need be looked at as long as that one is awake.
    glances: u32,
}

impl Reader {
    fn new() -> Self {
        Reader {
            buffer: vec![0; 4096],
            last_awake: None,
            glances: 0,
        }
    }

    /// Whether it is enough for now to know that who was awake still is.
    fn is_last_awake_still_awake(&mut self) -> Result<bool> {
        let Some((process, thread)) = self.last_awake else {
            return Ok(false);
        };
        let Some(left) = self.glances.checked_sub(1) else {
            return Ok(false);
        };
        self.glances = left;
        Ok(self.is_asleep_or_over(process, thread)? == Some(false))
    }

    /// Whether a thread sleeps, and not only is about to; or is over and was not waited for. `None` if it
    /// has ended.
    fn is_asleep_or_over(&mut self, process: u32, thread: u32) -> Result<Option<bool>> {
        // `0` also of a thread that is over.
        match self.read(process, thread, "wchan") {
            Some("0") => {
                let stat = self.stat(process, thread)?;
                Ok(stat.map(|stat| stat.state == State::Over))
            }
            Some(_) => Ok(Some(true)),
            None => Ok(None),
        }
    }

    /// The state of a thread, and of its process. `None` if it has ended.
    fn stat(&mut self, process: u32, thread: u32) -> Result<Option<Stat>> {
        let Some(text) = self.read(process, thread, "stat") else {
            return Ok(None);
        };
        let stat = Stat::parse(text).context("/proc does not tell the state of a thread")?;
        Ok(Some(stat))
    }

    /// How often a thread was scheduled. `None` if it has ended.
    fn times_scheduled(&mut self, process: u32, thread: u32) -> Result<Option<u64>> {
        let Some(schedstat) = self.read(process, thread, "schedstat") else {
            return Ok(None);
        };
        let times = schedstat.split_ascii_whitespace().nth(2);
        let times = times.and_then(|times| times.parse().ok());
        let times = times.context("/proc does not tell how often a thread was scheduled")?;
        Ok(Some(times))
    }

    /// What a file says of a thread. `None` if the thread has ended.
    fn read(&mut self, process: u32, thread: u32, file: &str) -> Option<&str> {
        let path = format!("/proc/{process}/task/{thread}/{file}");
        let mut file = std::fs::File::open(path).ok()?;
        let mut length = 0;
        loop {
            let read = file.read(&mut self.buffer[length..]).ok()?;
            length += read;
            // It has come to its end if there was room for more than one more entry of a list.
            if read == 0 || length <= self.buffer.len() / 2 {
                break;
            }
            self.buffer.resize(2 * length, 0);
        }
        str::from_utf8(&self.buffer[..length]).ok()
    }
}

/// What is in `/proc/PID/task/TID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: State,
    /// How many threads the process has.
    threads: usize,
}

/// The state of a thread, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until something happens that one can wait for.
    Asleep,
    /// By a signal.
    Stopped,
    /// And not waited for.
    Over,
    /// It runs, or is about to, or waits for a disk.
    Other,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name before it may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = match fields.next()? {
            "S" => State::Asleep,
            "T" | "t" => State::Stopped,
            "Z" => State::Over,
            _ => State::Other,
        };
        // The state is the third field.
        let threads = fields.nth(20 - 4)?.parse().ok()?;
        Some(Stat { state, threads })
    }
}

/// Says whether the kernel tells what a virtual clock has to know.
pub fn is_available() -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/{file}"));
    read("children").is_ok()
        && read("schedstat").is_ok_and(|text| !text.trim_end().ends_with(" 0"))
        && is_sleep_seen()
}

/// Whether it shows that a thread sleeps. Some systems show that only to root, or to nobody.
fn is_sleep_seen() -> bool {
    let (say, said) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = say.send(rustix::thread::gettid());
            let _ = ended.recv();
        });
        let Ok(id) = said.recv() else { return false };
        let wchan = format!("/proc/self/task/{}/wchan", id.as_raw_nonzero());
        let is_seen = (0..SLEEP_SEEN_WITHIN).any(|_| {
            thread::sleep(Duration::from_millis(1));
            fs::read_to_string(&wchan).is_ok_and(|place| place != "0")
        });
        drop(end);
        is_seen
    })
}

/// A stand-in's end of the connection.
#[derive(Debug)]
pub struct Alarm {
    stream: UnixStream,
    place: u64,
}

/// What the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// What time it is. ns since the replay began.
    pub now: u64,
    /// Whether the time that was asked for has not come yet, and there may be a token to take.
    pub may_take_token: bool,
    /// How much of what was asked for is left. ns. Nothing passes for one that is stopped.
    pub left: u64,
}

/// What a stand-in would do with a jobserver token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    NoToken,
    /// Have one thread more than it has.
    Token {
        /// How many it has.
        threads: NonZero<u64>,
        /// Whether it was offered a token just now, and there was none.
        found_none: bool,
    },
}

impl Alarm {
    /// Connects to the clock. As long as the connection is there and asks nothing, no time passes.
    pub fn connect(clock: &Path, place: usize) -> Result<Self> {
        let stream = UnixStream::connect(clock)
            .with_context(|| format!("no clock listens at {}", clock.display()))?;
        Ok(Alarm {
            stream,
            place: place as u64,
        })
    }

    /// What time it is. ns since the replay began.
    pub fn now(&mut self) -> Result<u64> {
        Ok(self.ask(0, Wish::NoToken)?.now)
    }

    /// Blocks until so many ns have passed.
    pub fn sleep(&mut self, ns: u64) -> Result<Woken> {
        self.ask(ns, Wish::NoToken)
    }

    /// Blocks until so many ns have passed, or there may be a token for what it wishes.
    pub fn sleep_or_take(&mut self, ns: u64, wish: Wish) -> Result<Woken> {
        // None at all would be a question for the time.
        self.ask(ns.max(1), wish)
    }

    fn ask(&mut self, ns: u64, wish: Wish) -> Result<Woken> {
        let (threads, found_none) = match wish {
            Wish::NoToken => (0, false),
            Wish::Token {
                threads,
                found_none,
            } => (threads.get(), found_none),
        };
        let mut question = [0; QUESTION];
        let numbers = [self.place, ns, threads, u64::from(found_none)];
        for (bytes, number) in question.chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        let gone = "the clock is gone";
        self.stream.write_all(&question).context(gone)?;
        let mut answer = [0; ANSWER];
        self.stream.read_exact(&mut answer).context(gone)?;
        let [now, may_take_token, left] = self::numbers(&answer);
        Ok(Woken {
            now,
            may_take_token: may_take_token != 0,
            left,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn the_name_of_a_program_may_hold_anything() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4194560 1 2 3 4 100 50 1000 1000 20 0 9 0 5 6 7";
        let parsed = Stat {
            state: State::Asleep,
            threads: 9,
        };
        assert_eq!(Stat::parse(stat), Some(parsed));
        assert_eq!(Stat::parse("12 (a"), None);
    }

    /// The process has nothing to do but to wait for the test, and the test asks the clock.
    #[test]
    fn time_passes_in_order_and_as_soon_as_all_is_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let clock = VirtualClock::new(dir.path()).unwrap();
        let address = clock.address();
        let mut cargo = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = cargo.stdin.take().unwrap();
        let hours = |hours: u64| hours * 3_600_000_000_000;
        let (said, heard) = std::sync::mpsc::channel();
        let sleepers: Vec<_> = [(2, 3, 1), (1, 1, 2), (0, 1, 1)]
            .into_iter()
            .map(|(place, first, second)| {
                let said = said.clone();
                // Time stands still until all are there.
                let mut alarm = Alarm::connect(&address, place).unwrap();
                std::thread::spawn(move || {
                    for sleep in [first, second] {
                        alarm.sleep(hours(sleep)).unwrap();
                        let now = alarm.now().unwrap();
                        said.send((now / hours(1), place)).unwrap();
                    }
                })
            })
            .collect();
        let ending = std::thread::spawn(move || {
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
            drop((stdin, said));
        });
        let status = clock.run(&mut cargo).unwrap();
        ending.join().unwrap();
        assert!(status.success());
        let heard: Vec<_> = heard.into_iter().collect();
        assert_eq!(heard, [(1, 0), (1, 1), (2, 0), (3, 1), (3, 2), (4, 2)]);
    }
}
