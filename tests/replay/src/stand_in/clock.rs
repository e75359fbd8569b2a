//! Taking as long as something took.

#[cfg(target_os = "linux")]
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use jobserver::{Acquired, Client, HelperThread};

use super::variable;
use crate::log::{Entry, Log, Phase, now};
use crate::plan::{LOG, OVERHEAD, SPEED};
#[cfg(target_os = "linux")]
use crate::virtual_clock::{Alarm, CLOCK, Wish};

/// The time of one unit, from the moment at which its program was started.
pub struct Clock {
    time: Time,
    log: PathBuf,
    place: usize,
    /// When the last phase ended; the beginning of the next. ns.
    at: u64,
}

enum Time {
    /// Each phase ends so long after the beginning as all phases until then took, however late the
    /// stand-in is: what it needs itself comes off what it sleeps.
    Wall { speed: f64 },
    /// What it needs itself takes no time.
    #[cfg(target_os = "linux")]
    Virtual(Alarm),
}

impl Clock {
    /// For the unit at this place of the recording. To be called first thing.
    pub fn start(began: u64, place: usize) -> Result<Self> {
        let log = variable(LOG)?.into();
        #[cfg(target_os = "linux")]
        if let Some(address) = std::env::var_os(CLOCK) {
            let mut alarm = Alarm::connect(address.as_ref(), place)?;
            return Ok(Clock {
                at: alarm.now()?,
                time: Time::Virtual(alarm),
                log,
                place,
            });
        }
        let number = |key| -> Result<f64> {
            let value = variable(key)?;
            let number = value.to_str().and_then(|value| value.parse().ok());
            number.with_context(|| format!("`{key}` is {value:?}, which is no number"))
        };
        Ok(Clock {
            time: Time::Wall {
                speed: number(SPEED)?,
            },
            log,
            place,
            // What a program costs that does nothing was over before the first line of `main`, or
            // comes after the last.
            at: began.saturating_sub(number(OVERHEAD)? as u64),
        })
    }

    /// How many ns of the replay are so many µs of the recording.
    fn scaled(&self, recorded: u64) -> u64 {
        match self.time {
            Time::Wall { speed } => (recorded as f64 * 1000.0 / speed) as u64,
            #[cfg(target_os = "linux")]
            Time::Virtual(_) => recorded * 1000,
        }
    }

    /// Returns when the phase ends, which takes so many µs on one thread.
    pub fn pass(&mut self, phase: Phase, recorded: u64) -> Result<()> {
        let took = self.scaled(recorded);
        let mut end = self.at + took;
        match &mut self.time {
            Time::Wall { .. } => thread::sleep(until(end)),
            #[cfg(target_os = "linux")]
            Time::Virtual(_) if took == 0 => {}
            #[cfg(target_os = "linux")]
            // Later, if it was stopped meanwhile.
            Time::Virtual(alarm) => end = alarm.sleep(took)?.now,
        }
        self.finish(phase, end)
    }

    /// Returns when the work is done, which takes so many µs on one thread, with as many threads as
    /// there are tokens and codegen units. Nothing comes after it.
    pub fn pass_in_parallel(
        mut self,
        phase: Phase,
        recorded: u64,
        codegen_units: u64,
        jobserver: Option<Client>,
    ) -> Result<()> {
        let Some(jobserver) = jobserver.filter(|_| codegen_units > 1 && recorded > 0) else {
            return self.pass(phase, recorded);
        };
        let mut work = Work {
            left: self.scaled(recorded),
            at: self.at,
            tokens: Vec::new(),
        };
        let (ended, threads) = match self.time {
            Time::Wall { .. } => {
                work.pass_by_the_wall(codegen_units, jobserver)?;
                (work.at.max(now()), work.threads())
            }
            #[cfg(target_os = "linux")]
            Time::Virtual(alarm) => work.pass_by(alarm, codegen_units, &jobserver)?,
        };
        let entry = Entry {
            place: self.place,
            phase,
            began: self.at,
            ended,
            threads,
        };
        Log::append(&self.log, &entry)
    }

    fn finish(&mut self, phase: Phase, end: u64) -> Result<()> {
        let ended = match self.time {
            // How late it is, is in the log; the next phase is as short as that makes it.
            Time::Wall { .. } => end.max(now()),
            #[cfg(target_os = "linux")]
            Time::Virtual(_) => end,
        };
        let entry = Entry {
            place: self.place,
            phase,
            began: self.at,
            ended,
            threads: 1,
        };
        self.at = end;
        Log::append(&self.log, &entry)
    }
}

fn until(end: u64) -> Duration {
    Duration::from_nanos(end.saturating_sub(now()))
}

/// What several threads do at once, each at the same pace.
struct Work {
    /// For one thread. ns.
    left: u64,
    /// Until when it is accounted for. ns.
    at: u64,
    /// Each is worth one more thread.
    tokens: Vec<Acquired>,
}

impl Work {
    fn threads(&self) -> u64 {
        self.tokens.len() as u64 + 1
    }

    /// When it will be done with the threads that there are.
    fn end(&self) -> u64 {
        self.at + self.left.div_ceil(self.threads())
    }

    /// Takes off what was done until now.
    fn account(&mut self, now: u64) {
        let now = now.clamp(self.at, self.end());
        self.did_for(now - self.at, now);
    }

    /// Takes off what was done in so many ns, until now.
    fn did_for(&mut self, passed: u64, now: u64) {
        self.left = self.left.saturating_sub(passed * self.threads());
        self.at = now;
    }

    fn done(&mut self) {
        self.at = self.end();
        self.left = 0;
    }

    fn pass_by_the_wall(&mut self, codegen_units: u64, jobserver: Client) -> Result<()> {
        let (sender, tokens) = mpsc::channel();
        let helper = acquire(jobserver, codegen_units, move |token| {
            let _ = sender.send(token);
        })?;
        loop {
            match tokens.recv_timeout(until(self.end())) {
                Ok(token) => {
                    self.account(now());
                    self.tokens.push(token);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(until(self.end()));
                    break;
                }
            }
        }
        self.done();
        drop(helper);
        Ok(())
    }

    /// Returns when it ends, and how many threads it had then.
    #[cfg(target_os = "linux")]
    fn pass_by(
        mut self,
        mut alarm: Alarm,
        codegen_units: u64,
        jobserver: &Client,
    ) -> Result<(u64, u64)> {
        let mut found_none = false;
        loop {
            let wish = match NonZero::new(self.threads()) {
                Some(threads) if threads.get() < codegen_units => Wish::Token {
                    threads,
                    found_none,
                },
                _ => Wish::NoToken,
            };
            let asked = self.end() - self.at;
            let woken = alarm.sleep_or_take(asked, wish)?;
            if !woken.may_take_token {
                self.at = woken.now;
                break;
            }
            let token = jobserver.try_acquire()?;
            found_none = token.is_none();
            self.did_for(asked.saturating_sub(woken.left), woken.now);
            self.tokens.extend(token);
        }
        let outcome = (self.at, self.threads());
        // They are back before any time passes.
        self.tokens.clear();
        drop(alarm);
        Ok(outcome)
    }
}

/// Asks for a token for each codegen unit but the first. One that comes when nothing is left to do
/// goes back as it is dropped.
fn acquire(
    jobserver: Client,
    codegen_units: u64,
    on_token: impl Fn(Acquired) + Send + 'static,
) -> Result<HelperThread> {
    let helper = jobserver.into_helper_thread(move |token| {
        if let Ok(token) = token {
            on_token(token);
        }
    })?;
    for _ in 1..codegen_units {
        helper.request_token();
    }
    Ok(helper)
}
