//! A real cargo, among stand-ins.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::log::Log;
use crate::plan;
use crate::stand_in::{self, Role};
use crate::{Recording, Skeleton};

/// How many times nothing is done, to see what that costs.
const OVERHEAD_RUNS: usize = 41;

/// By which clock stand-ins take their time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Time {
    /// They sleep, by so much less than was recorded.
    Wall {
        /// How much less.
        speed: f64,
    },
    /// They wait for a clock that moves as soon as all is quiet; see `virtual_clock`.
    Virtual,
}

impl Time {
    /// Virtual, where that can be had.
    pub fn best() -> Self {
        #[cfg(target_os = "linux")]
        if crate::virtual_clock::is_available() {
            return Time::Virtual;
        }
        Time::Wall { speed: 1.0 }
    }

    /// By how much times in a log are less than those that were recorded.
    pub fn speed(self) -> f64 {
        match self {
            Time::Wall { speed } => speed,
            Time::Virtual => 1.0,
        }
    }
}

/// What all replays share.
#[derive(Debug)]
pub struct Stage {
    /// The stand-in's program.
    pub stand_in: PathBuf,
    rustc: PathBuf,
    host: String,
    /// What a stand-in costs that does nothing.
    pub overhead: Duration,
}

impl Stage {
    /// With the stand-in's program, which is measured, and a real compiler and its platform.
    pub fn new(stand_in: PathBuf, rustc: PathBuf, host: String) -> Result<Self> {
        Ok(Stage {
            overhead: overhead(&stand_in)?,
            stand_in,
            rustc,
            host,
        })
    }

    /// Lays out a recording in `dir`, which must not exist.
    pub fn prepare<'s>(&'s self, recording: &'s Recording, dir: &Path) -> Result<Scene<'s>> {
        fs::create_dir_all(dir)?;
        let rustc = Role::Rustc.install(&self.stand_in, dir, "rustc")?;
        let bin = stand_in::sysroot(&rustc).join("bin");
        fs::create_dir_all(&bin)?;
        fs::hard_link(&rustc, bin.join("rustc"))?;
        Ok(Scene {
            stage: self,
            recording,
            skeleton: Skeleton::lay_out(recording, &dir.join("workspace"))?,
            rustc,
            linker: Role::Linker.install(&self.stand_in, dir, "cc")?,
            dir: dir.to_path_buf(),
        })
    }
}

fn overhead(stand_in: &Path) -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let nothing = Role::Nothing.install(stand_in, dir.path(), "nothing")?;
    let mut times = Vec::new();
    for _ in 0..OVERHEAD_RUNS {
        let began = Instant::now();
        let status = Command::new(&nothing).status()?;
        times.push(began.elapsed());
        if !status.success() {
            bail!("the stand-in does not even do nothing ({status})");
        }
    }
    times.sort_unstable();
    Ok(times[OVERHEAD_RUNS / 2])
}

/// A recording, ready to be replayed as often as one likes.
#[derive(Debug)]
pub struct Scene<'s> {
    stage: &'s Stage,
    recording: &'s Recording,
    skeleton: Skeleton,
    rustc: PathBuf,
    linker: PathBuf,
    dir: PathBuf,
}

/// One replay.
#[derive(Debug)]
pub struct Played {
    /// What the stand-ins did, in the time of the replay.
    pub log: Log,
    /// How long cargo ran, with what it does before and after the build.
    pub cargo: Duration,
    /// The trace of the replacement.
    pub trace: Option<PathBuf>,
    /// What cargo itself used, where that is known and time is the wall's.
    pub usage: Option<Usage>,
}

/// What a process used, without those that it has started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// How long it ran on a processor.
    pub cpu: Duration,
    /// How much memory it had at most. Bytes.
    pub peak_memory: u64,
}

/// What the replacement is told, where it is not to go by its defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'s> {
    /// `build.pipelining`
    pub pipelining: Option<&'s str>,
    /// `build.schedule`
    pub schedule: Option<&'s str>,
}

impl Scene<'_> {
    /// Has the next replay be of a build whose units nobody has built before.
    pub fn forget_costs(&self) -> Result<()> {
        match fs::remove_file(self.home().join(".build-costs")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Builds everything with this cargo.
    ///
    /// # Errors
    ///
    /// Cargo failed, or did not build exactly what was recorded.
    pub fn play(
        &self,
        cargo: &Path,
        jobs: u64,
        settings: Settings<'_>,
        time: Time,
    ) -> Result<Played> {
        let [target, log, trace, output] =
            ["target", "log", "trace.json", "output"].map(|name| self.dir.join(name));
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        for file in [&log, &trace] {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        fs::write(&log, "")?;
        let mut command = Command::new(cargo);
        for (key, _) in std::env::vars_os() {
            if key.to_str().is_none_or(is_setting) {
                command.env_remove(key);
            }
        }
        let linker = format!("CARGO_TARGET_{}_LINKER", self.stage.host);
        let linker = linker.to_uppercase().replace(['-', '.'], "_");
        let out = fs::File::create(&output)?.into_parts().0;
        command
            .current_dir(self.skeleton.root())
            .args(self.skeleton.args())
            .arg(format!("-j{jobs}"))
            .args(["--quiet", "--offline"])
            .env("CARGO_HOME", self.home())
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_BUILD_TRACE", &trace)
            // What a stand-in writes says nothing about what a compiler would have written.
            .env("CARGO_BUILD_EARLY_CUTOFF", "false")
            .env("RUSTC", &self.rustc)
            .env("RUSTC_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", "")
            .env(linker, &self.linker)
            .env(plan::RUSTC, &self.stage.rustc)
            .env(plan::LOG, &log)
            .env(plan::SPEED, time.speed().to_string())
            .env(plan::OVERHEAD, self.stage.overhead.as_nanos().to_string())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        for (key, value) in [
            ("CARGO_BUILD_PIPELINING", settings.pipelining),
            ("CARGO_BUILD_SCHEDULE", settings.schedule),
        ] {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        let began = Instant::now();
        let (status, usage) = run_by(time, command)
            .with_context(|| format!("could not run `{}`", cargo.display()))?;
        let took = began.elapsed();
        if !status.success() {
            let output = fs::read_to_string(&output)?;
            bail!(
                "`{}` failed on the skeleton of {} ({status}):\n{output}",
                cargo.display(),
                self.recording.name
            );
        }
        let log = Log::read(&log)?;
        log.check(self.recording)?;
        Ok(Played {
            log,
            cargo: took,
            trace: trace.exists().then_some(trace),
            usage,
        })
    }
}

/// Runs cargo while time passes in one way or the other.
#[cfg(target_os = "linux")]
fn run_by(time: Time, mut command: Command) -> Result<(ExitStatus, Option<Usage>)> {
    use crate::virtual_clock::{CLOCK, VirtualClock};
    use cargo_pipelining::scheduler::CLOCK_FILE;
    match time {
        Time::Wall { .. } => {
            let mut cargo = command.spawn()?;
            let usage = usage_until_the_end(&cargo)?;
            Ok((cargo.wait()?, Some(usage)))
        }
        Time::Virtual => {
            let dir = tempfile::tempdir()?;
            let clock = VirtualClock::new(dir.path())?;
            command
                .env(CLOCK, clock.address())
                .env(CLOCK_FILE, clock.file());
            let mut cargo = command.spawn()?;
            Ok((clock.run(&mut cargo)?, None))
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn run_by(time: Time, mut command: Command) -> Result<(ExitStatus, Option<Usage>)> {
    match time {
        Time::Wall { .. } => Ok((command.status()?, None)),
        Time::Virtual => bail!("there is no virtual clock on this system"),
    }
}

/// Watches a process until it ends, and leaves it to be waited for.
#[cfg(target_os = "linux")]
fn usage_until_the_end(process: &std::process::Child) -> Result<Usage> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    /// The most that it ever had is gone with the process, so it is read while there is one.
    const INTERVAL: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let proc = PathBuf::from(format!("/proc/{}", process.id()));
    let pid = Pid::from_child(process);
    let ends = pidfd_open(pid, PidfdFlags::empty())?;
    let mut peak_memory = 0;
    loop {
        let status = fs::read_to_string(proc.join("status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak_memory = peak.map_or(peak_memory, |kib| kib * 1024);
        match poll(&mut [PollFd::new(&ends, PollFlags::IN)], Some(&INTERVAL)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    let stat = fs::read_to_string(proc.join("stat"))?;
    let cpu = cpu(&stat).context("/proc does not tell how long a process ran")?;
    Ok(Usage { cpu, peak_memory })
}

/// `utime` and `stime` in `/proc/PID/stat` (proc_pid_stat(5)), which count all threads, and no
/// other process.
#[cfg(target_os = "linux")]
fn cpu(stat: &str) -> Option<Duration> {
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Whether a variable of the environment could change what cargo does.
fn is_setting(key: &str) -> bool {
    key.starts_with("CARGO")
        || key.starts_with("RUST")
        || matches!(key, "MAKEFLAGS" | "MFLAGS" | "OUT_DIR")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_the_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 100 50 1000 1000 20 0 9 0 5 6 7";
        let seconds = 150.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu(stat), Some(Duration::from_secs_f64(seconds)));
        assert_eq!(cpu("7 (a) S 1"), None);
    }
}
